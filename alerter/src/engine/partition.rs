//! The devices of one partition. Record time moves them: devices are seen, and checks fall due.
//!
//! Pure. Single episodes belong to [`crate::engine::step`] and [`crate::engine::no_data`].

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use ljwx_reading::DeviceSn;

use crate::engine::device::{Device, Devices, LastSeen};
use crate::engine::journal::JournalSize;
use crate::engine::no_data::deadlines::{Deadlines, schedule_check};
use crate::engine::no_data::episodes::{
    advance, concerned, missed, next_look, open_absences, stale, tenant,
};
use crate::engine::no_data::partition_clock::{OUT_OF_SERVICE_MS, PartitionClock};
use crate::engine::outcome::{Arrival, Change, moment};
use crate::rules::index::RuleSet;
use crate::rules::rule::Trigger;
use crate::rules::verdict::{Measurement, Verdict};
use crate::rules::vital::Vital;

/// A partition, as it is kept in memory.
#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) devices: Devices,
    pub(super) journal: JournalSize,
    pub(super) clock: PartitionClock,
    /// Whether the partition's clock is to be written.
    pub(super) clock_changed: bool,
    /// Whether the starts of the windows are to be written.
    pub(super) windows_moved: bool,
    pub(super) deadlines: Deadlines,
    /// Places of the devices that are to be written.
    pub(super) moved: Vec<usize>,
    pub(super) stepped: BTreeSet<(i64, DeviceSn)>,
}

impl Partition {
    /// Notes a record: the partition, and then the device, was seen. Returns the device's place.
    pub(super) fn saw_record(
        &mut self,
        arrival: &Arrival<'_>,
        rules: &RuleSet,
        zone: &TimeZone,
        changes: &mut Vec<Change>,
    ) -> usize {
        self.windows_moved |= self.clock.saw_record(arrival.kafka_ms);
        self.clock_changed |= self.clock.counts();
        self.fall_due(self.clock.clock_ms(), rules, zone, changes);
        let sn = arrival.reading.device_sn();
        let place = match self.devices.get_index_of(sn) {
            Some(place) => place,
            None => self.devices.insert_full(sn.clone(), Device::default()).0,
        };
        let device = &mut self.devices[place];
        let before = device.last_seen;
        device.last_seen = LastSeen { at: before.at.max(arrival.kafka_ms), ids: arrival.ids };
        if device.last_seen == before {
            return place;
        }
        let ended = open_absences(device, rules);
        if !ended.is_empty() {
            let now = moment(zone, arrival.kafka_ms);
            let verdict = Verdict::Clear(Measurement { vital: Vital::NoData, value: 0.0 });
            changes.extend(
                ended.iter().filter_map(|rule| {
                    advance((device, sn), rule, verdict, now, &mut self.stepped)
                }),
            );
        }
        let returned = arrival.kafka_ms - before.at > OUT_OF_SERVICE_MS;
        if returned || before.ids.customer_id != arrival.ids.customer_id {
            schedule_check(
                &mut self.deadlines,
                &self.clock,
                rules.of(tenant(arrival.ids)).on_absence(),
                sn,
                device,
            );
        } else {
            schedule_check(&mut self.deadlines, &self.clock, ended.iter(), sn, device);
        }
        device.moves(place, &mut self.moved);
        place
    }

    /// Processes the checks that have fallen due by `until`.
    pub(super) fn fall_due(
        &mut self,
        until: i64,
        rules: &RuleSet,
        zone: &TimeZone,
        changes: &mut Vec<Change>,
    ) {
        while let Some(due) = self.deadlines.pop(until) {
            let sn = &due.device_sn;
            let Some(device) = self.devices.get_mut(sn) else { continue };
            let Some(rule) = rules.in_force(tenant(concerned(device, due.rule_id)), due.rule_id)
            else {
                continue;
            };
            let due_at = rule.absence().and_then(|one| self.clock.due(one, device.last_seen.at));
            let Some(silent_at) = due_at else { continue };
            if due.at < silent_at {
                self.deadlines.schedule(sn, rule.id, silent_at);
                continue;
            }
            let at = moment(zone, due.at);
            let change = match rule.trigger {
                Trigger::NoData(window_ms) => {
                    let change = missed((device, sn), rule, window_ms, at, &mut self.stepped);
                    self.deadlines.schedule(sn, rule.id, next_look(device, rule, due.at));
                    change
                }
                Trigger::Range(_) | Trigger::Conditions(_) => {
                    stale((device, sn), rule, at, &mut self.stepped)
                }
            };
            changes.extend(change);
        }
    }

    /// Reverts the notification of `change`. A device that stays silent has no reading at which the
    /// episode is notified late, so a check does that.
    pub(super) fn undo_notification(&mut self, change: &Change) {
        let Some(device) = self.devices.get_mut(&change.device_sn) else { return };
        let Some(tracked) = device.tracked.get_mut(&change.rule_id) else { return };
        let episode = std::mem::take(&mut tracked.episode);
        tracked.episode = episode.undo_notification(&change.before, change.transition.to);
        if let Some(rule) = change.rule.as_deref()
            && matches!(rule.trigger, Trigger::NoData(_))
        {
            let at = next_look(device, rule, change.at.ms);
            self.deadlines.schedule(&change.device_sn, rule.id, at);
        }
    }

    /// Schedules the checks of all devices by the active rules. A new window counts from now.
    pub(super) fn schedule_all(&mut self, rules: &RuleSet) {
        let armed = self.clock.arm(rules.absence_windows());
        self.clock_changed |= armed;
        self.windows_moved |= armed;
        self.deadlines = Deadlines::default();
        if !self.clock.counts() {
            return;
        }
        for (sn, device) in &self.devices {
            let silent = rules.of(tenant(device.last_seen.ids)).on_absence();
            schedule_check(&mut self.deadlines, &self.clock, silent, sn, device);
            for (id, tracked) in &device.tracked {
                let rule = rules.in_force(tenant(tracked.ids), *id);
                let open = tracked.episode.open().is_some();
                schedule_check(
                    &mut self.deadlines,
                    &self.clock,
                    rule.filter(|_| open).into_iter(),
                    sn,
                    device,
                );
            }
        }
    }
}
