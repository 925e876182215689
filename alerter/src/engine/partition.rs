//! The devices of one partition. Record time moves them: devices are seen, and checks fall due.
//!
//! Pure. Single episodes belong to [`crate::engine::step`] and [`crate::engine::no_data`].

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::tz::TimeZone;
use ljwx_reading::{DeviceSn, Ids};

use crate::engine::device::{Device, Devices, LastSeen, VitalUpdate};
use crate::engine::episode::evaluate::cannot_change_state;
use crate::engine::journal::JournalSize;
use crate::engine::no_data::deadlines::{Deadlines, schedule_check};
use crate::engine::no_data::episodes::{advance, fell_silent, next_look, open_absences, tenant};
use crate::engine::no_data::partition_clock::{OUT_OF_SERVICE_MS, PartitionClock};
use crate::engine::outcome::{Arrival, Change, Evaluated, ReadingOutcome, RemainingRules, moment};
use crate::engine::owed_index::TouchedStates;
use crate::engine::routing::{Router, RoutingAt};
use crate::engine::step::{RuleStep, is_past};
use crate::rules::index::RuleSet;
use crate::rules::rule::{Rule, Trigger};
use crate::rules::verdict::{Measurement, Verdict};
use crate::rules::vital::{Vital, VitalSet};

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
}

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
        let device = &mut self.devices[place];
        let VitalUpdate { present, newer } = device.seen.note(reading);
        if newer.is_empty() {
            evaluated.outcome =
                if present.is_empty() { ReadingOutcome::Evaluated } else { ReadingOutcome::Late };
            return Some(remaining);
        }
        evaluated.outcome = ReadingOutcome::Evaluated;
        device.moves(place, &mut self.moved);
        let rules = rules.of(tenant(arrival.ids));
        let affected = if rules.all_in_safe_ranges(newer, reading.vitals()) {
            rules.affected_among(device.tracked.keys().copied(), newer)
        } else {
            rules.affected(newer)
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

    /// Notes a record: the partition, and then the device, was seen. Returns the device's place.
    /// `None`: people must be looked up first, and only the partition was seen.
    fn saw_record(
        &mut self,
        arrival: &Arrival<'_>,
        rules: &RuleSet,
        zone: &TimeZone,
        routing: RoutingAt<'_>,
        evaluated: &mut Evaluated,
    ) -> Option<usize> {
        self.windows_moved |= self.clock.saw_record(arrival.kafka_ms);
        self.clock_changed |= self.clock.counts();
        let (changes, unknown) = self.fall_due(self.clock.clock_ms(), rules, zone, routing);
        evaluated.changes.extend(changes);
        evaluated.unknown = unknown;
        if !evaluated.unknown.is_empty() {
            return None;
        }
        let sn = arrival.reading.device_sn();
        let place = match self.devices.get_index_of(sn) {
            Some(place) => place,
            None => self.devices.insert_full(sn.clone(), Device::default()).0,
        };
        let device = &mut self.devices[place];
        let before = device.last_seen;
        device.last_seen = LastSeen { at: before.at.max(arrival.kafka_ms), ids: arrival.ids };
        if device.last_seen == before {
            return Some(place);
        }
        let ended = open_absences(device, rules);
        for rule in &ended {
            let at = moment(zone, arrival.kafka_ms);
            let step = RuleStep { rule, device_sn: sn, at, routing };
            let verdict = Verdict::Clear(Measurement { vital: Vital::NoData, value: 0.0 });
            // An end asks for no one, so no one is unknown.
            let end = advance(&step, device, &mut self.touched, verdict);
            evaluated.changes.extend(end.ok().flatten());
        }
        let returned = arrival.kafka_ms - before.at > OUT_OF_SERVICE_MS;
        if returned || before.ids.customer_id != arrival.ids.customer_id {
            let silent = rules.of(tenant(arrival.ids)).on_absence();
            schedule_check(&mut self.deadlines, &self.clock, silent, sn, device);
        } else {
            schedule_check(&mut self.deadlines, &self.clock, ended.iter(), sn, device);
        }
        device.moves(place, &mut self.moved);
        Some(place)
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
        while let Some(due) = self.deadlines.pop(until) {
            let sn = &due.device_sn;
            let Some((rule, silent_at)) = self.silent_at(sn, due.rule_id, rules) else { continue };
            if due.at < silent_at {
                self.deadlines.schedule(sn, rule.id, silent_at);
                continue;
            }
            let Some(device) = self.devices.get_mut(sn) else { continue };
            let step = RuleStep { rule, device_sn: sn, at: moment(zone, due.at), routing };
            match fell_silent(&step, device, &mut self.touched) {
                Ok(change) => {
                    changes.extend(change);
                    if matches!(rule.trigger, Trigger::NoData(_)) {
                        self.deadlines.schedule(sn, rule.id, next_look(device, rule, due.at));
                    }
                }
                Err(ids) => stopped.push((due, ids)),
            }
        }
        for (due, _) in &stopped {
            self.deadlines.schedule(&due.device_sn, due.rule_id, due.at);
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
                    let stale = std::iter::once(rule);
                    schedule_check(&mut self.deadlines, &self.clock, stale, sn, device);
                }
            }
        }
    }
}
