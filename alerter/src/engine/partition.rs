//! The devices of one partition. Record time moves them: devices are seen, and checks fall due.
//!
//! Pure. Single episodes belong to [`crate::engine::step`] and [`crate::engine::no_data`].

use std::iter;
use std::sync::Arc;

use ljwx_reading::{DeviceSn, Reading};

use crate::engine::closing::ends::leave_wearer;
use crate::engine::device::{Device, Devices, LastRecord, LastSeen, VitalUpdate, tenant};
use crate::engine::episode::TransitionKind;
use crate::engine::episode::evaluate::cannot_change_state;
use crate::engine::journal::JournalSize;
use crate::engine::ladder;
use crate::engine::no_data::deadlines::{Deadlines, schedule_check};
use crate::engine::no_data::episodes::{advance, fell_silent, next_look, open_absences};
use crate::engine::no_data::partition_clock::{OUT_OF_SERVICE_MS, PartitionClock};
use crate::engine::outcome::{
    Arrival, CHANGES_MAX, Evaluated, EventTime, Progress, ReadingOutcome, RemainingRules, moment,
};
use crate::engine::owed::index::TouchedStates;
use crate::engine::routing::Basis;
use crate::engine::step::{RuleStep, is_past, step, step_down};
use crate::rules::index::RuleSet;
use crate::rules::{Measurement, Rule, TEMPLATE_TENANT, Verdict, Vital, VitalSet};

/// A partition, as it is kept in memory.
#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) devices: Devices,
    pub(super) journal: JournalSize,
    pub(super) clock: PartitionClock,
    /// Wall time at which its last record was evaluated, in milliseconds; 0: none since it was loaded.
    pub(super) last_evaluated_ms: i64,
    /// Whether the partition's clock is to be written.
    pub(super) clock_changed: bool,
    /// Whether the starts of the windows are to be written.
    pub(super) windows_moved: bool,
    pub(super) deadlines: Deadlines,
    /// Places of the devices that are to be written.
    pub(super) moved: Vec<usize>,
    pub(super) touched: TouchedStates,
    /// Whether missing data is not evaluated now.
    pub(super) is_absence_suspended: bool,
}

/// Time by which a record may be ahead of the wall clock, in milliseconds. Beyond, the clock of its
/// gateway is wrong.
const GATEWAY_AHEAD_MS: i64 = 60_000;

impl Partition {
    /// Notes a reading, and returns the rules that it affects. `None`: people must be looked up
    /// first.
    pub(super) fn begin(
        &mut self,
        arrival: &Arrival<'_>,
        basis: Basis<'_>,
        evaluated: &mut Evaluated,
    ) -> Option<RemainingRules> {
        let (reading, rules) = (arrival.reading, basis.rules);
        let place = self.saw_record(arrival, basis, evaluated)?;
        let mut remaining = RemainingRules { place, fresh: VitalSet::default(), rules: Vec::new() };
        if reading.ahead_of_clock() {
            return Some(remaining);
        }
        let VitalUpdate { present, newer } = self.devices[place].seen.note(reading);
        if newer.is_empty() && !present.is_empty() {
            evaluated.outcome = ReadingOutcome::Late;
            return Some(remaining);
        }
        evaluated.outcome = ReadingOutcome::Evaluated;
        self.saw_device(place, arrival, basis, evaluated);
        let device = &mut self.devices[place];
        device.moves(place, &mut self.moved);
        let of_tenant = rules.of(tenant(arrival.ids));
        let mut affected = if !of_tenant.all_in_safe_ranges(newer, reading.vitals()) {
            of_tenant.affected(newer)
        } else if device.tracked.is_empty() {
            return Some(remaining);
        } else {
            of_tenant.affected_among(device.tracked.keys().copied(), newer)
        };
        // Nothing else ends the episodes of a tenant's own rules while the tenant is not known.
        if arrival.ids.customer_id.is_none() {
            let open = device.tracked.iter().filter(|(_, state)| state.episode.open().is_some());
            let own = open.filter_map(|(id, state)| rules.in_force(tenant(state.ids), *id));
            affected.extend(own.filter(|rule| {
                rule.customer_id != TEMPLATE_TENANT && rule.watched_vitals().intersects(newer)
            }));
        }
        remaining.fresh = newer;
        let affected = affected.into_iter().rev().filter(|rule| {
            let is_tracked = device.tracked.contains_key(&rule.id);
            !is_past(rule, reading.epoch_ms(), &device.seen)
                && (is_tracked || !cannot_change_state(rule, newer, reading))
        });
        remaining.rules.extend(affected.cloned());
        Some(remaining)
    }

    /// Notes a record: time passes in the partition, and its device is alive. Returns the device's
    /// place. `None`: people must be looked up first, and only time has passed.
    fn saw_record(
        &mut self,
        arrival: &Arrival<'_>,
        basis: Basis<'_>,
        evaluated: &mut Evaluated,
    ) -> Option<usize> {
        evaluated.gateway_ahead = arrival.kafka_ms > arrival.evaluated_ms + GATEWAY_AHEAD_MS;
        let at = if evaluated.gateway_ahead { arrival.evaluated_ms } else { arrival.kafka_ms };
        let sn = arrival.reading.device_sn();
        let known = self.devices.get_index_of(sn);
        let before = known.map_or(LastRecord::default(), |place| self.devices[place].last_record);
        self.windows_moved |= self.clock.saw_record(at, before.is_late_at(at));
        self.clock_changed |= self.clock.counts();
        let clock_ms = self.clock.clock_ms();
        // For most records no check is due.
        if self.deadlines.first().is_some_and(|at| at <= clock_ms) {
            let (changes, unknown) = self.fall_due(clock_ms, basis);
            evaluated.changes.extend(changes);
            evaluated.unknown = unknown;
            if !evaluated.unknown.is_empty() {
                return None;
            }
        }
        evaluated.is_surplus &= known.is_none();
        let place = match known {
            Some(place) => place,
            None => self.devices.insert_full(sn.clone(), Device::default()).0,
        };
        let device = &mut self.devices[place];
        device.last_record.note(clock_ms, arrival.reading.ahead_of_clock());
        // An outage is no interval. Where none is known, a pause within the window may be one.
        let slack_ms = |window: i64| if before.interval_s == 0 { window } else { 0 };
        let mut starts = self.clock.since();
        if starts.any(|(window, since)| before.at + slack_ms(window) < since) {
            device.last_record.interval_s = 0;
        }
        if device.last_record != before {
            device.moves(place, &mut self.moved);
        }
        Some(place)
    }

    /// Notes that a device was seen, by a reading that is evaluated. The episodes of another wearer
    /// close, and missing data ends, unless the reading is replayed.
    fn saw_device(
        &mut self,
        place: usize,
        arrival: &Arrival<'_>,
        basis: Basis<'_>,
        evaluated: &mut Evaluated,
    ) {
        let Basis { rules, zone, .. } = basis;
        let (sn, clock_ms) = (arrival.reading.device_sn(), self.clock.clock_ms());
        let device = &mut self.devices[place];
        let before = device.last_seen;
        device.is_bound = arrival.is_bound;
        let at = if arrival.is_replayed { before.at } else { clock_ms };
        device.last_seen = LastSeen { at, ids: arrival.ids };
        // The wall clock may have found the device missing while the partition's clock stood.
        if device.last_seen == before && device.tracked.is_empty() {
            return;
        }
        if before.ids != arrival.ids && !device.tracked.is_empty() {
            let at = moment(zone, clock_ms);
            let closed = leave_wearer(device, sn, arrival.ids, rules, at, &mut self.touched);
            evaluated.changes.extend(closed);
        }
        if arrival.is_replayed {
            return;
        }
        let ended = open_absences(device, rules);
        for rule in &ended {
            let at = moment(zone, clock_ms);
            let step = RuleStep { rule, device_sn: sn, at, basis };
            let verdict = Verdict::Clear(Measurement { vital: Vital::NoData, value: 0.0 });
            // An end asks for no one, so no one is unknown.
            let end = advance(&step, device, &mut self.touched, verdict);
            evaluated.changes.extend(end.ok().flatten());
        }
        if evaluated.is_surplus {
            return;
        }
        let returned = clock_ms - before.at > OUT_OF_SERVICE_MS;
        // An absence that closed with its wearer has no check any more.
        if returned || before.ids != arrival.ids {
            let silent = rules.of(tenant(arrival.ids)).on_absence();
            schedule_check(&mut self.deadlines, &self.clock, silent, sn, device);
        } else {
            schedule_check(&mut self.deadlines, &self.clock, ended.iter(), sn, device);
        }
    }

    /// Steps the remaining rules in their order, until people must be looked up. Then the ends among
    /// the changes are completed, after which a lower rule of the vital goes on.
    pub(super) fn step_rules(
        &mut self,
        remaining: &mut RemainingRules,
        reading: &Reading,
        basis: Basis<'_>,
        evaluated: &mut Evaluated,
    ) {
        let Self { devices, clock, deadlines, touched, .. } = self;
        let (device_sn, device) = (reading.device_sn(), &mut devices[remaining.place]);
        let at = EventTime { ms: reading.epoch_ms(), wall: reading.timestamp() };
        while let Some(rule) = remaining.rules.pop() {
            let of_rule = RuleStep { rule: &rule, device_sn, at, basis };
            match step(&of_rule, device, remaining.fresh, reading, touched) {
                Ok((verdict, change)) => {
                    evaluated.breaches += u64::from(matches!(verdict, Verdict::Breach { .. }));
                    let kind = change.as_ref().map(|change| change.transition.to);
                    if kind == Some(TransitionKind::Opened) {
                        // The episode may become stale.
                        schedule_check(deadlines, clock, iter::once(&rule), device_sn, device);
                    }
                    evaluated.changes.extend(change);
                }
                Err(unknown) => {
                    evaluated.unknown.insert(unknown);
                    remaining.rules.push(rule);
                    return;
                }
            }
        }
        if evaluated.changes.is_empty() {
            return;
        }
        for rule in &ladder::step_down(&mut evaluated.changes, device, basis.rules) {
            let held_back = RuleStep { rule, device_sn, at, basis };
            match step_down(&held_back, device, reading, touched) {
                Ok(change) => evaluated.changes.extend(change),
                Err(unknown) => drop(evaluated.unknown.insert(unknown)),
            }
        }
    }

    /// Forgets the device of an evaluation that has ended, which is one too many, if no episode
    /// needs it.
    pub(super) fn drop_surplus(&mut self, place: usize) {
        if self.devices[place].tracked.is_empty() {
            // The device came last, so all other places stay.
            self.devices.swap_remove_index(place);
            self.moved.retain(|moved| *moved != place);
        }
    }

    /// Processes the checks that have fallen due by `until`, and returns the changes and the people
    /// to look up. Checks for which people were not known stay due, so that devices that fall silent
    /// together are looked up together. So do those beyond [`CHANGES_MAX`].
    pub(super) fn fall_due(&mut self, until: i64, basis: Basis<'_>) -> Progress {
        let (mut changes, mut stopped) = (Vec::new(), Vec::new());
        if self.is_absence_suspended {
            return Default::default();
        }
        while changes.len() < CHANGES_MAX
            && let Some((due_at, sn, rule_id)) = self.deadlines.pop(until)
        {
            let silent = self.silent_at(&sn, rule_id, basis.rules);
            let Some((rule, silent_at)) = silent else { continue };
            if due_at < silent_at {
                self.deadlines.schedule(&sn, rule_id, silent_at);
                continue;
            }
            let Some(device) = self.devices.get_mut(&sn) else { continue };
            let at = moment(basis.zone, due_at);
            let step = RuleStep { rule, device_sn: &sn, at, basis };
            match fell_silent(&step, device, &mut self.touched) {
                Ok(change) => {
                    changes.extend(change);
                    if rule.is_no_data() {
                        self.deadlines.schedule(&sn, rule_id, next_look(device, rule, due_at));
                    }
                }
                Err(ids) => stopped.push(((due_at, sn, rule_id), ids)),
            }
        }
        for ((due_at, sn, rule_id), _) in &stopped {
            self.deadlines.schedule(sn, *rule_id, *due_at);
        }
        (changes, stopped.into_iter().map(|(_, ids)| ids).collect())
    }

    /// Returns the rule of a check, and the time at which the device will have been silent for as
    /// long as the rule allows.
    fn silent_at<'a>(
        &self,
        sn: &DeviceSn,
        rule_id: i64,
        rules: &'a RuleSet,
    ) -> Option<(&'a Arc<Rule>, i64)> {
        let device = self.devices.get(sn)?;
        let ids = device.open(rule_id).map_or(device.last_seen.ids, |tracked| tracked.ids);
        let rule = rules.in_force(tenant(ids), rule_id)?;
        Some((rule, self.clock.due(rule, device.seen_at(rule))?))
    }
}
