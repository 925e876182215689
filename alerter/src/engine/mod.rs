//! Evaluates readings by rules: opens, continues and ends episodes, partition by partition.
//!
//! Pure: holds the state of every device of the owned partitions in memory, performs no I/O and
//! reads no clock. [`crate::pipeline`] feeds the engine and writes the changes.

pub mod device;
pub mod episode;
pub mod journal;
pub mod no_data;
pub mod outcome;
mod partition;
mod persisted_state;
mod rule_change;
mod step;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::engine::episode::evaluate::cannot_change_state;
use crate::engine::no_data::deadlines::schedule_stale_check;
use crate::engine::partition::Partition;
use crate::rules::index::RuleSet;
use crate::rules::rule::TEMPLATE_TENANT;
use crate::rules::severity::Severity;
use crate::rules::verdict::Verdict;

pub use self::device::{Device, Devices, LastSeen, RuleState};
pub use self::outcome::{Arrival, Change, Evaluated, EventTime, ReadingOutcome};
pub use self::persisted_state::{StateChanges, StoredPartition};

/// Longest time of a reading from the gateway to Kafka, in milliseconds. Wall time proves nothing
/// about records of this last period.
const IN_TRANSIT_MS: i64 = 5_000;

/// The state of the owned partitions, and the active rules.
#[derive(Debug)]
pub struct Engine {
    rules: Arc<RuleSet>,
    zone: TimeZone,
    partitions: BTreeMap<i32, Partition>,
}

impl Default for Engine {
    fn default() -> Self {
        Self::new(TimeZone::UTC)
    }
}

impl Engine {
    /// Returns an engine without partitions. Missing data is dated in `zone`.
    pub fn new(zone: TimeZone) -> Self {
        Self { rules: Arc::default(), zone, partitions: BTreeMap::new() }
    }

    /// Takes over a partition with its stored state. The caller must call [`Self::realign`] next.
    pub fn load(&mut self, partition: i32, stored: StoredPartition) {
        let StoredPartition { devices, journal, clock } = stored;
        let loaded = Partition { devices, journal, clock, ..Partition::default() };
        self.partitions.insert(partition, loaded);
    }

    /// Drops a partition, and its changes that were not written.
    pub fn forget(&mut self, partition: i32) {
        self.partitions.remove(&partition);
    }

    /// Returns the owned partitions.
    pub fn partitions(&self) -> Vec<i32> {
        self.partitions.keys().copied().collect()
    }

    /// Evaluates by `rules` from now on. [`Self::realign`] brings a partition's state in line.
    pub fn set_rules(&mut self, rules: Arc<RuleSet>) {
        self.rules = rules;
    }

    /// Evaluates one reading. First its record time shows which devices have fallen silent. Then
    /// the missing data of its own device ends. Then its newer vitals are evaluated. For a
    /// partition that was never loaded nothing changes.
    pub fn evaluate<'a>(&mut self, partition: i32, arrival: impl Into<Arrival<'a>>) -> Evaluated {
        let arrival = arrival.into();
        let reading = arrival.reading;
        let mut evaluated =
            Evaluated { outcome: ReadingOutcome::AheadOfClock, breaches: 0, changes: Vec::new() };
        let Self { rules, zone, partitions } = self;
        let Some(partition) = partitions.get_mut(&partition) else { return evaluated };
        let place = partition.saw_record(&arrival, rules, zone, &mut evaluated.changes);
        if reading.ahead_of_clock() {
            return evaluated;
        }
        let device = &mut partition.devices[place];
        let carried = device.seen.note(reading);
        if carried.newer.is_empty() {
            evaluated.outcome = if carried.present.is_empty() {
                ReadingOutcome::Evaluated
            } else {
                ReadingOutcome::Late
            };
            return evaluated;
        }
        evaluated.outcome = ReadingOutcome::Evaluated;
        device.moves(place, &mut partition.moved);
        let tenant = arrival.ids.customer_id.unwrap_or(TEMPLATE_TENANT);
        let (fresh, rules) = (carried.newer, rules.of(tenant));
        let affected = if rules.all_in_safe_ranges(fresh, reading.vitals()) {
            rules.affected_among(device.tracked.keys().copied(), fresh)
        } else {
            rules.affected(fresh)
        };
        for rule in affected {
            if step::is_past(rule, reading.epoch_ms(), &device.seen) {
                continue;
            }
            let tracked = !device.tracked.is_empty() && device.tracked.contains_key(&rule.id);
            if !tracked && cannot_change_state(rule, fresh, reading) {
                continue;
            }
            let (verdict, change) =
                step::step(device, rule, fresh, &arrival, &mut partition.stepped);
            evaluated.breaches += u64::from(matches!(verdict, Verdict::Breach { .. }));
            if let Some(change) = change {
                schedule_stale_check(&mut partition.deadlines, &partition.clock, device, &change);
                evaluated.changes.push(change);
            }
        }
        evaluated
    }

    /// Returns partitions in which data is missing for too long by wall time `now_ms`, though no
    /// record has shown it. Returns none while no partition has recent records: then the devices
    /// are not the cause.
    pub fn overdue(&self, now_ms: i64) -> Vec<i32> {
        let shortest = self.rules.absence_windows().first();
        let heard = self.partitions.values().map(|partition| partition.clock.clock_ms()).max();
        let (Some(shortest), Some(heard)) = (shortest, heard) else { return Vec::new() };
        let until = now_ms - IN_TRANSIT_MS;
        if heard < until - shortest / 2 {
            return Vec::new();
        }
        let due = |partition: &Partition| partition.deadlines.first().is_some_and(|at| at <= until);
        self.partitions.iter().filter(|(_, one)| due(one)).map(|(number, _)| *number).collect()
    }

    /// Processes wall time `now_ms` in a partition whose records are all evaluated, and returns the
    /// changes.
    pub fn tick(&mut self, partition: i32, now_ms: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        let Self { rules, zone, partitions } = self;
        if let Some(partition) = partitions.get_mut(&partition) {
            partition.fall_due(now_ms - IN_TRANSIT_MS, rules, zone, &mut changes);
        }
        changes
    }

    /// Brings a partition in line with the active rules. State of another rule version becomes
    /// quiet, and so does state of a rule that no longer concerns the device. The active rules
    /// restart the checks for missing data.
    pub fn realign(&mut self, partition: i32) -> Vec<Change> {
        let Self { rules, zone, partitions } = self;
        partitions.get_mut(&partition).map_or_else(Vec::new, |one| one.realign(rules, zone))
    }

    /// Returns the changes of a partition since the last call.
    pub fn take_changes(&mut self, partition: i32) -> StateChanges {
        let partition = self.partitions.get_mut(&partition);
        partition.map_or_else(StateChanges::default, Partition::take_changes)
    }

    /// Returns a partition as a restart loads it: written, and read back.
    #[cfg(test)]
    pub fn as_stored(&self, partition: i32) -> StoredPartition {
        self.partitions[&partition].as_stored()
    }

    /// Reverts the notification of `change`, because it reached no recipient.
    pub fn undo_notification(&mut self, partition: i32, change: &Change) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.undo_notification(change);
        }
    }

    /// Returns the number of open episodes by severity, over all partitions.
    pub fn open_episodes(&self) -> BTreeMap<Severity, u64> {
        let mut open: BTreeMap<_, _> = Severity::ALL.map(|severity| (severity, 0)).into();
        let devices = self.partitions.values().flat_map(|partition| partition.devices.values());
        for tracked in devices.flat_map(|device| device.tracked.values()) {
            if let Some(episode) = tracked.episode.open() {
                *open.entry(episode.severity).or_default() += 1;
            }
        }
        open
    }

    /// Returns how many states of a rule on a device are in memory.
    pub fn states(&self) -> usize {
        let devices = self.partitions.values().flat_map(|partition| partition.devices.values());
        devices.map(|device| device.tracked.len()).sum()
    }
}

#[cfg(test)]
mod model_tests;

#[cfg(test)]
mod tests;
