//! Closes the episodes of devices that have another wearer, belong to nobody, or are forgotten.
//!
//! Pure. [`crate::engine::rule_change`] closes episodes whose rule changed.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use ljwx_reading::{DeviceSn, Ids};

use crate::engine::device::{Device, LastSeen, RuleState, Silence};
use crate::engine::no_data::episodes::tenant;
use crate::engine::outcome::{Change, EventTime, moment};
use crate::engine::owed::index::TouchedStates;
use crate::engine::partition::Partition;
use crate::engine::rule_change::supersede;
use crate::rules::index::RuleSet;
use crate::rules::rule::Trigger;
use crate::rules::verdict::{Measurement, Verdict};
use crate::rules::vital::Vital;

/// Makes the states of a device quiet that do not concern its new ids. If another person wears the
/// device, all of them start over, and who was notified of an episode is notified of its end. An
/// unknown person is no other person. If only the tenant is another one, the episodes of rules that
/// the new tenant does not have close like those of a changed rule.
pub(super) fn leave_wearer(
    device: &mut Device,
    sn: &DeviceSn,
    ids: Ids,
    rules: &RuleSet,
    at: EventTime,
    touched: &mut TouchedStates,
) -> Vec<Change> {
    let is_other = |known: i64| ids.user_id.is_some_and(|user_id| user_id != known);
    let tracked = std::mem::take(&mut device.tracked);
    if tracked.values().filter_map(|state| state.ids.user_id).any(is_other) {
        let closed = tracked.into_iter();
        return closed.filter_map(|one| close((sn, one), rules, at, true, touched)).collect();
    }
    let mut changes = Vec::new();
    for (id, mut state) in tracked {
        if rules.in_force(tenant(ids), id).is_none() {
            changes.extend(supersede((sn, id), &mut state, rules, None, at, touched));
        }
        if !state.is_default() {
            device.tracked.insert(id, state);
        }
    }
    changes
}

/// Closes an episode for good and drops its state. `notify`: whoever was notified of it is notified
/// of its end.
fn close(
    (sn, (id, state)): (&DeviceSn, (i64, RuleState)),
    rules: &RuleSet,
    at: EventTime,
    notify: bool,
    touched: &mut TouchedStates,
) -> Option<Change> {
    let RuleState { version, ids, episode, .. } = state;
    touched.stepped.insert((id, sn.clone()));
    touched.owed.step((sn, id), [episode.owes(), false], false, at.ms);
    let transition = episode.close(notify)?;
    let rule = rules.in_force(tenant(ids), id);
    let vital = rule.and_then(|rule| rule.watched_vitals().iter().next()).unwrap_or(Vital::NoData);
    Some(Change {
        rule: rule.cloned(),
        rule_id: id,
        rule_version: version,
        device_sn: sn.clone(),
        ids,
        transition,
        // No reading caused the end.
        verdict: Verdict::Between(Measurement { vital, value: 0.0 }),
        at,
        silence: Silence::default(),
    })
}

impl Partition {
    /// Forgets devices without a record for `after_ms` of the partition's clock, and closes their
    /// episodes. Does nothing while a device is to be written, because places change.
    pub(super) fn forget_devices(
        &mut self,
        after_ms: i64,
        rules: &RuleSet,
        zone: &TimeZone,
    ) -> Vec<Change> {
        let clock_ms = self.clock.clock_ms();
        let mut changes = Vec::new();
        if !self.moved.is_empty() {
            return changes;
        }
        let (at, touched) = (moment(zone, clock_ms), &mut self.touched);
        self.devices.retain(|sn, device| {
            let is_kept = !device.is_silent_for(after_ms, clock_ms);
            if !is_kept {
                let closed = std::mem::take(&mut device.tracked).into_iter();
                let close = |one| close((sn, one), rules, at, false, touched);
                changes.extend(closed.filter_map(close));
            }
            is_kept
        });
        changes
    }

    /// Returns the devices that are missing from a known wearer.
    pub(super) fn absent_users(&self, rules: &RuleSet) -> BTreeSet<DeviceSn> {
        let is_missed = |(id, state): (&i64, &RuleState)| {
            let rule = rules.in_force(tenant(state.ids), *id);
            state.ids.user_id.is_some()
                && state.episode.open().is_some()
                && rule.is_some_and(|rule| matches!(rule.trigger, Trigger::NoData(_)))
        };
        let absent = self.devices.iter().filter(|(_, device)| device.tracked.iter().any(is_missed));
        absent.map(|(sn, _)| sn.clone()).collect()
    }

    /// Closes the absences of devices that belong to nobody any more. The devices count as not seen
    /// until their next reading, so that they are not missed again.
    pub(super) fn close_unbound(
        &mut self,
        unbound: &BTreeSet<DeviceSn>,
        rules: &RuleSet,
        zone: &TimeZone,
    ) -> Vec<Change> {
        let at = moment(zone, self.clock.clock_ms());
        let mut changes = Vec::new();
        for sn in unbound {
            let Some((place, _, device)) = self.devices.get_full_mut(sn) else { continue };
            device.last_seen = LastSeen::default();
            let is_absence = |id: &i64, state: &mut RuleState| {
                let rule = rules.in_force(tenant(state.ids), *id);
                rule.is_some_and(|rule| matches!(rule.trigger, Trigger::NoData(_)))
            };
            let absences: Vec<_> = device.tracked.extract_if(.., is_absence).collect();
            let close = |one| close((sn, one), rules, at, false, &mut self.touched);
            changes.extend(absences.into_iter().filter_map(close));
            self.devices[place].moves(place, &mut self.moved);
        }
        changes
    }
}

impl Device {
    /// Whether the device has sent nothing for so long.
    pub(super) fn is_silent_for(&self, after_ms: i64, clock_ms: i64) -> bool {
        clock_ms - self.last_seen.at.max(self.last_record.at) > after_ms
    }
}
