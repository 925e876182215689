//! What absence leads to: rules of category `NO_DATA` open, episodes of other rules close as stale.
//!
//! Every time is a Kafka record time. Whether an episode opens, and when, follows from the records
//! alone: what is noticed early, by the wall clock, is what the next record would have shown.

pub mod deadlines;
pub mod partition_clock;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::tz::TimeZone;
use ljwx_reading::{DeviceSn, Ids};

use super::{Arrival, Change, Device, Engine, Heard, Moment, Partition, Tracked, moment};
use crate::engine::episode::To;
use crate::engine::no_data::deadlines::Watchlist;
use crate::engine::no_data::partition_clock::{Hearing, OUT_OF_SERVICE_MS};
use crate::rules::rule::{Measured, Rule, Verdict, Watch};
use crate::rules::vital::Sign;
use crate::rules::{RuleSet, TEMPLATE_TENANT};

/// How often an episode is looked at that may not open, or be told, at this time of day: one
/// minute, in milliseconds.
const RECHECK_MS: i64 = 60_000;

/// How long a reading may be on its way from the gateway to Kafka, in milliseconds: wall time says
/// nothing about the last of it.
const UNDERWAY_MS: i64 = 5_000;

impl Engine {
    /// Partitions in which an absence is due by wall time `now_ms`, though no record has shown it.
    /// None while nobody is heard: then it is not the devices that are away.
    pub fn overdue(&self, now_ms: i64) -> Vec<i32> {
        let shortest = self.rules.absence_windows().first();
        let heard = self.partitions.values().map(|partition| partition.hearing.clock_ms()).max();
        let (Some(shortest), Some(heard)) = (shortest, heard) else { return Vec::new() };
        let until = now_ms - UNDERWAY_MS;
        if heard < until - shortest / 2 {
            return Vec::new();
        }
        let due = |partition: &Partition| partition.watchlist.first().is_some_and(|at| at <= until);
        self.partitions.iter().filter(|(_, one)| due(one)).map(|(number, _)| *number).collect()
    }

    /// What wall time `now_ms` shows in a partition all of whose records were judged.
    pub fn tick(&mut self, partition: i32, now_ms: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        let Self { rules, zone, partitions } = self;
        if let Some(partition) = partitions.get_mut(&partition) {
            partition.fall_due(now_ms - UNDERWAY_MS, rules, zone, &mut changes);
        }
        changes
    }
}

impl Partition {
    /// Takes a record for a sign of life: of the partition, then of its device. Says where that is
    /// among the devices.
    pub(super) fn hears(
        &mut self,
        arrival: &Arrival<'_>,
        rules: &RuleSet,
        zone: &TimeZone,
        changes: &mut Vec<Change>,
    ) -> usize {
        self.windows_moved |= self.hearing.hears(arrival.kafka_ms);
        self.heard |= self.hearing.counts();
        self.fall_due(self.hearing.clock_ms(), rules, zone, changes);
        let sn = arrival.reading.device_sn();
        let place = match self.devices.get_index_of(sn) {
            Some(place) => place,
            None => self.devices.insert_full(sn.clone(), Device::default()).0,
        };
        let device = &mut self.devices[place];
        let before = device.heard;
        device.heard = Heard { at: before.at.max(arrival.kafka_ms), ids: arrival.ids };
        if device.heard == before {
            return place;
        }
        let ended = open_absences(device, rules);
        if !ended.is_empty() {
            let now = moment(zone, arrival.kafka_ms);
            let verdict = Verdict::Clear(Measured { sign: Sign::Absence, value: 0.0 });
            changes.extend(
                ended.iter().filter_map(|rule| {
                    advance((device, sn), rule, verdict, now, &mut self.stepped)
                }),
            );
        }
        let returned = arrival.kafka_ms - before.at > OUT_OF_SERVICE_MS;
        if returned || before.ids.customer_id != arrival.ids.customer_id {
            watch(
                &mut self.watchlist,
                &self.hearing,
                rules.of(tenant(arrival.ids)).on_absence(),
                sn,
                device,
            );
        } else {
            watch(&mut self.watchlist, &self.hearing, ended.iter(), sn, device);
        }
        device.moves(place, &mut self.moved);
        place
    }

    /// Looks at whatever has fallen due by `until`.
    fn fall_due(
        &mut self,
        until: i64,
        rules: &RuleSet,
        zone: &TimeZone,
        changes: &mut Vec<Change>,
    ) {
        while let Some(due) = self.watchlist.pop(until) {
            let sn = &due.device_sn;
            let Some(device) = self.devices.get_mut(sn) else { continue };
            let Some(rule) = rules.in_force(tenant(concerned(device, due.rule_id)), due.rule_id)
            else {
                continue;
            };
            let due_at = rule.absence().and_then(|one| self.hearing.due(one, device.heard.at));
            let Some(silent_at) = due_at else { continue };
            if due.at < silent_at {
                self.watchlist.schedule(sn, rule.id, silent_at);
                continue;
            }
            let at = moment(zone, due.at);
            let change = match rule.watch {
                Watch::Absence(window_ms) => {
                    let change = missed((device, sn), rule, window_ms, at, &mut self.stepped);
                    self.watchlist.schedule(sn, rule.id, next_look(device, rule, due.at));
                    change
                }
                Watch::Range(_) | Watch::Conditions(_) => {
                    stale((device, sn), rule, at, &mut self.stepped)
                }
            };
            changes.extend(change);
        }
    }

    /// Counts absence by the rules in force, anew for those that changed.
    pub(super) fn watch_all(&mut self, rules: &RuleSet) {
        let armed = self.hearing.arm(rules.absence_windows());
        self.heard |= armed;
        self.windows_moved |= armed;
        self.watchlist = Watchlist::default();
        if !self.hearing.counts() {
            return;
        }
        for (sn, device) in &self.devices {
            let silent = rules.of(tenant(device.heard.ids)).on_absence();
            watch(&mut self.watchlist, &self.hearing, silent, sn, device);
            for (id, tracked) in &device.tracked {
                let rule = rules.in_force(tenant(tracked.ids), *id);
                let open = tracked.episode.open().is_some();
                watch(
                    &mut self.watchlist,
                    &self.hearing,
                    rule.filter(|_| open).into_iter(),
                    sn,
                    device,
                );
            }
        }
    }
}

/// Watches an episode that a reading has opened, where it may become stale.
pub(super) fn watch_opened(
    watchlist: &mut Watchlist,
    hearing: &Hearing,
    device: &Device,
    change: &Change,
) {
    if change.transition.to == To::Opened {
        watch(watchlist, hearing, change.rule.iter(), &change.device_sn, device);
    }
}

/// Schedules the next look of each of the rules that make anything of absence.
fn watch<'a>(
    watchlist: &mut Watchlist,
    hearing: &Hearing,
    rules: impl Iterator<Item = &'a Arc<Rule>>,
    sn: &DeviceSn,
    device: &Device,
) {
    for rule in rules {
        if let Some(at) = rule.absence().and_then(|one| hearing.due(one, device.heard.at)) {
            watchlist.schedule(sn, rule.id, at);
        }
    }
}

/// The rules whose open episode is the device's absence.
fn open_absences(device: &Device, rules: &RuleSet) -> Vec<Arc<Rule>> {
    let open = device.tracked.iter().filter(|(_, tracked)| tracked.episode.open().is_some());
    open.filter_map(|(id, tracked)| rules.in_force(tenant(tracked.ids), *id))
        .filter(|rule| matches!(rule.watch, Watch::Absence(_)))
        .cloned()
        .collect()
}

/// The device is silent for longer than the rule allows.
fn missed(
    (device, sn): (&mut Device, &DeviceSn),
    rule: &Arc<Rule>,
    window_ms: i64,
    at: Moment,
    stepped: &mut BTreeSet<(i64, DeviceSn)>,
) -> Option<Change> {
    let may_open = rule.effective.holds(at.wall);
    if !may_open && !is_open(device, rule.id) {
        return None;
    }
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let measured = Measured { sign: Sign::Absence, value: seconds(at.ms - device.heard.at) };
    let verdict = Verdict::Breach { measured, bound: seconds(window_ms), may_open };
    advance((device, sn), rule, verdict, at, stepped)
}

/// When a silent device has to be looked at again.
fn next_look(device: &Device, rule: &Rule, now: i64) -> i64 {
    let tracked = device.tracked.get(&rule.id);
    match tracked.filter(|tracked| tracked.episode.open().is_some()) {
        // Open, and nothing more to tell: not before the device is heard again.
        Some(tracked) => match tracked.episode.next_due(&rule.policy) {
            None => i64::MAX,
            Some(next) if next <= now => now + RECHECK_MS,
            Some(next) => next,
        },
        None => now + RECHECK_MS,
    }
}

/// One step of a rule on absence.
fn advance(
    (device, sn): (&mut Device, &DeviceSn),
    rule: &Arc<Rule>,
    verdict: Verdict,
    at: Moment,
    stepped: &mut BTreeSet<(i64, DeviceSn)>,
) -> Option<Change> {
    let prior = device.tracked.remove(&rule.id).unwrap_or_default();
    let open = prior.episode.open().is_some();
    let ids = if open { prior.ids } else { device.heard.ids };
    let before = prior.episode;
    let (episode, transition) = before.clone().step(&rule.policy, &verdict, at.ms);
    let tracked = Tracked { version: rule.version, ids, episode, memory: None };
    if !tracked.episode.is_blank() {
        device.tracked.insert(rule.id, tracked);
    }
    stepped.insert((rule.id, sn.clone()));
    Some(Change {
        rule: Some(Arc::clone(rule)),
        rule_id: rule.id,
        rule_version: rule.version,
        device_sn: sn.clone(),
        ids,
        transition: transition?,
        verdict,
        at,
        before,
    })
}

/// Closes an open episode whose device has fallen silent.
fn stale(
    (device, sn): (&mut Device, &DeviceSn),
    rule: &Arc<Rule>,
    at: Moment,
    stepped: &mut BTreeSet<(i64, DeviceSn)>,
) -> Option<Change> {
    let tracked = device.tracked.get_mut(&rule.id)?;
    let before = std::mem::take(&mut tracked.episode);
    let (after, transition) = before.clone().give_up();
    tracked.episode = after;
    let transition = transition?;
    // The rule starts over with whatever the device says once it is heard again.
    tracked.memory = None;
    let ids = tracked.ids;
    if tracked.episode.is_blank() {
        device.tracked.remove(&rule.id);
    }
    stepped.insert((rule.id, sn.clone()));
    let value = (at.ms - device.heard.at) as f64 / 1000.0;
    Some(Change {
        rule: Some(Arc::clone(rule)),
        rule_id: rule.id,
        rule_version: rule.version,
        device_sn: sn.clone(),
        ids,
        transition,
        verdict: Verdict::Between(Measured { sign: Sign::Absence, value }),
        at,
        before,
    })
}

/// Whose people a rule concerns on a device: those of the open episode, else those of the device.
fn concerned(device: &Device, rule_id: i64) -> Ids {
    let open = device.tracked.get(&rule_id).filter(|tracked| tracked.episode.open().is_some());
    open.map_or(device.heard.ids, |tracked| tracked.ids)
}

fn is_open(device: &Device, rule_id: i64) -> bool {
    device.tracked.get(&rule_id).is_some_and(|tracked| tracked.episode.open().is_some())
}

fn tenant(ids: Ids) -> i64 {
    ids.customer_id.unwrap_or(TEMPLATE_TENANT)
}

#[cfg(test)]
mod tests;
