//! The devices of one partition. Record time moves them: devices are seen, and checks fall due.
//! Another set of active rules makes states quiet.
//!
//! Pure. Single episodes belong to [`crate::engine::step`] and [`crate::engine::no_data`].

use std::collections::BTreeSet;
use std::iter;
use std::sync::Arc;

use jiff::tz::TimeZone;
use ljwx_reading::{DeviceSn, Ids};

use crate::engine::closing::ends::{leave_wearer, supersede};
use crate::engine::device::{Device, Devices, LastRecord, LastSeen, VitalUpdate, tenant};
use crate::engine::episode::TransitionKind;
use crate::engine::episode::evaluate::cannot_change_state;
use crate::engine::journal::JournalSize;
use crate::engine::ladder;
use crate::engine::no_data::deadlines::{Deadlines, schedule_check};
use crate::engine::no_data::episodes::{advance, fell_silent, next_look, open_absences};
use crate::engine::no_data::partition_clock::{OUT_OF_SERVICE_MS, PartitionClock};
use crate::engine::outcome::{
    Arrival, Change, Evaluated, EventTime, ReadingOutcome, RemainingRules, moment,
};
use crate::engine::owed::index::TouchedStates;
use crate::engine::routing::{Router, RoutingAt};
use crate::engine::step::{RuleStep, is_past, step, step_down};
use crate::rules::index::RuleSet;
use crate::rules::{Measurement, Rule, Trigger, Verdict, Vital, VitalSet};

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
        rules: &RuleSet,
        zone: &TimeZone,
        router: &dyn Router,
        evaluated: &mut Evaluated,
    ) -> Option<RemainingRules> {
        let reading = arrival.reading;
        let routing = RoutingAt { router, now_ms: arrival.evaluated_ms };
        let place = self.saw_record(arrival, rules, zone, routing, evaluated)?;
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
        self.saw_device(place, arrival, (rules, zone), routing, evaluated);
        let device = &mut self.devices[place];
        device.moves(place, &mut self.moved);
        let rules = rules.of(tenant(arrival.ids));
        let affected = if !rules.all_in_safe_ranges(newer, reading.vitals()) {
            rules.affected(newer)
        } else if device.tracked.is_empty() {
            return Some(remaining);
        } else {
            rules.affected_among(device.tracked.keys().copied(), newer)
        };
        remaining.fresh = newer;
        remaining.rules.extend(
            affected
                .into_iter()
                .rev()
                .filter(|rule| {
                    let tracked =
                        !device.tracked.is_empty() && device.tracked.contains_key(&rule.id);
                    !is_past(rule, reading.epoch_ms(), &device.seen)
                        && (tracked || !cannot_change_state(rule, newer, reading))
                })
                .cloned(),
        );
        Some(remaining)
    }

    /// Notes a record: time passes in the partition, and its device is alive. Returns the device's
    /// place. `None`: people must be looked up first, and only time has passed.
    fn saw_record(
        &mut self,
        arrival: &Arrival<'_>,
        rules: &RuleSet,
        zone: &TimeZone,
        routing: RoutingAt<'_>,
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
            let (changes, unknown) = self.fall_due(clock_ms, rules, zone, routing);
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
        if device.last_record != before {
            device.moves(place, &mut self.moved);
        }
        Some(place)
    }

    /// Notes that a device was seen, by a reading that is evaluated. The episodes of another wearer
    /// close, and missing data ends.
    fn saw_device(
        &mut self,
        place: usize,
        arrival: &Arrival<'_>,
        (rules, zone): (&RuleSet, &TimeZone),
        routing: RoutingAt<'_>,
        evaluated: &mut Evaluated,
    ) {
        let (sn, clock_ms) = (arrival.reading.device_sn(), self.clock.clock_ms());
        let device = &mut self.devices[place];
        let before = device.last_seen;
        device.is_bound = arrival.is_bound;
        device.last_seen = LastSeen { at: clock_ms, ids: arrival.ids };
        if device.last_seen == before {
            return;
        }
        if before.ids != arrival.ids && !device.tracked.is_empty() {
            let at = moment(zone, clock_ms);
            let closed = leave_wearer(device, sn, arrival.ids, rules, at, &mut self.touched);
            evaluated.changes.extend(closed);
        }
        let ended = open_absences(device, rules);
        for rule in &ended {
            let at = moment(zone, clock_ms);
            let step = RuleStep { rule, device_sn: sn, at, routing, rules };
            let verdict = Verdict::Clear(Measurement { vital: Vital::NoData, value: 0.0 });
            // An end asks for no one, so no one is unknown.
            let end = advance(&step, device, &mut self.touched, verdict);
            evaluated.changes.extend(end.ok().flatten());
        }
        if evaluated.is_surplus {
            return;
        }
        let returned = clock_ms - before.at > OUT_OF_SERVICE_MS;
        if returned || before.ids.customer_id != arrival.ids.customer_id {
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
        arrival: &Arrival<'_>,
        (rules, router): (&RuleSet, &dyn Router),
        evaluated: &mut Evaluated,
    ) {
        let Self { devices, clock, deadlines, touched, .. } = self;
        let (reading, device) = (arrival.reading, &mut devices[remaining.place]);
        let device_sn = reading.device_sn();
        while let Some(rule) = remaining.rules.pop() {
            match step(device, &rule, remaining.fresh, arrival, (rules, router), touched) {
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
        let at = EventTime { ms: reading.epoch_ms(), wall: reading.timestamp() };
        let routing = RoutingAt { router, now_ms: arrival.evaluated_ms };
        for rule in &ladder::step_down(&mut evaluated.changes, device, rules) {
            let held_back = RuleStep { rule, device_sn, at, routing, rules };
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
    /// together are looked up together.
    pub(super) fn fall_due(
        &mut self,
        until: i64,
        rules: &RuleSet,
        zone: &TimeZone,
        routing: RoutingAt<'_>,
    ) -> (Vec<Change>, BTreeSet<Ids>) {
        let (mut changes, mut stopped) = (Vec::new(), Vec::new());
        if self.is_absence_suspended {
            return Default::default();
        }
        while let Some((due_at, sn, rule_id)) = self.deadlines.pop(until) {
            let Some((rule, silent_at)) = self.silent_at(&sn, rule_id, rules) else { continue };
            if due_at < silent_at {
                self.deadlines.schedule(&sn, rule_id, silent_at);
                continue;
            }
            let Some(device) = self.devices.get_mut(&sn) else { continue };
            let at = moment(zone, due_at);
            let step = RuleStep { rule, device_sn: &sn, at, routing, rules };
            match fell_silent(&step, device, &mut self.touched) {
                Ok(change) => {
                    changes.extend(change);
                    if matches!(rule.trigger, Trigger::NoData(_)) {
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
        Some((rule, self.clock.due(rule.absence()?, device.last_seen.at)?))
    }

    /// State of another rule version becomes quiet, and so does state of a rule that no longer
    /// concerns the device. The active rules restart the checks for missing data.
    pub(super) fn realign(&mut self, rules: &RuleSet, zone: &TimeZone) -> Vec<Change> {
        let mut changes = Vec::new();
        let (now, touched) = (moment(zone, self.clock.clock_ms()), &mut self.touched);
        for (sn, device) in &mut self.devices {
            for (id, state) in &mut device.tracked {
                let rule = rules.in_force(tenant(state.ids), *id);
                let version = rule.map(|rule| rule.version);
                if version != Some(state.version) {
                    changes.extend(supersede((sn, *id), state, rules, version, now, touched));
                }
            }
            device.tracked.retain(|_, tracked| !tracked.is_default());
        }
        self.schedule_all(rules);
        changes
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
                let Some(rule) = rule.filter(|_| tracked.episode.open().is_some()) else {
                    continue;
                };
                if matches!(rule.trigger, Trigger::NoData(_)) {
                    // What fell due before has been checked: a check of then would be dated then.
                    let next = next_look(device, rule, self.clock.clock_ms());
                    self.deadlines.schedule(sn, *id, next);
                } else {
                    let stale = iter::once(rule);
                    schedule_check(&mut self.deadlines, &self.clock, stale, sn, device);
                }
            }
        }
    }
}
