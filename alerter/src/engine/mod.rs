//! Evaluates readings by rules: opens, continues and ends episodes, partition by partition.
//!
//! Pure: holds the state of every device of the owned partitions in memory, performs no I/O and
//! reads no clock. [`crate::pipeline`] feeds the engine and writes the changes.

mod closing;
pub mod device;
pub mod episode;
pub mod journal;
mod ladder;
pub mod no_data;
pub mod outcome;
pub mod owed;
mod partition;
mod persisted_state;
mod realign;
pub mod routing;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::tz::TimeZone;
use ljwx_reading::DeviceSn;

use crate::engine::partition::Partition;
use crate::engine::routing::{Basis, Router};
use crate::rules::Severity;
use crate::rules::index::RuleSet;

pub use self::device::{Device, Devices, LastSeen, RuleState, Silence};
pub use self::outcome::{
    Arrival, Change, Evaluated, EventTime, OwedEpisode, Progress, ReadingOutcome,
};
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
    limits: DeviceLimits,
    /// Number of devices of all partitions.
    devices: usize,
    /// Wall time at which the last record was evaluated, in milliseconds.
    last_evaluated_ms: i64,
    is_absence_suspended: bool,
}

/// How many devices are remembered, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct DeviceLimits {
    /// Time without a record after which a device is forgotten, in milliseconds.
    pub forget_after_ms: i64,
    /// Devices beyond which new ones are evaluated and not remembered.
    pub devices_max: usize,
}

impl Default for DeviceLimits {
    fn default() -> Self {
        Self { forget_after_ms: i64::MAX, devices_max: usize::MAX }
    }
}

impl Engine {
    /// Returns an engine without partitions. Missing data is dated in `zone`.
    pub fn new(zone: TimeZone, limits: DeviceLimits) -> Self {
        Self {
            rules: Arc::default(),
            zone,
            partitions: BTreeMap::new(),
            limits,
            devices: 0,
            last_evaluated_ms: 0,
            is_absence_suspended: false,
        }
    }

    /// Takes over a partition with its stored state. The caller must call [`Self::realign`] next.
    pub fn load(&mut self, partition: i32, stored: StoredPartition) {
        let StoredPartition { mut devices, journal, clock } = stored;
        let (after_ms, clock_ms) = (self.forget_after_ms(), clock.clock_ms());
        // The journal may still name devices that were forgotten.
        devices.retain(|_, device| {
            !device.tracked.is_empty() || !device.is_silent_for(after_ms, clock_ms)
        });
        let is_absence_suspended = self.is_absence_suspended;
        let mut loaded =
            Partition { devices, journal, clock, is_absence_suspended, ..Partition::default() };
        loaded.index_owed();
        self.partitions.insert(partition, loaded);
        self.count_devices();
    }

    fn count_devices(&mut self) {
        self.devices = self.partitions.values().map(|partition| partition.devices.len()).sum();
    }

    /// Decides whether missing data is evaluated. After a suspension all windows count anew.
    pub fn set_absence_evaluated(&mut self, evaluated: bool) {
        if self.is_absence_suspended != evaluated {
            return;
        }
        self.is_absence_suspended = !evaluated;
        let Self { rules, partitions, .. } = self;
        for partition in partitions.values_mut() {
            partition.is_absence_suspended = !evaluated;
            if evaluated {
                partition.clock.restart();
                (partition.clock_changed, partition.windows_moved) = (true, true);
                partition.schedule_all(rules);
            }
        }
    }

    /// Forgets the devices of a partition that have sent nothing for long, and returns their closed
    /// episodes.
    pub fn forget_devices(&mut self, partition: i32) -> Vec<Change> {
        let after_ms = self.forget_after_ms();
        let Self { rules, zone, partitions, .. } = self;
        let changes = partitions
            .get_mut(&partition)
            .map_or_else(Vec::new, |one| one.forget_devices(after_ms, rules, zone));
        self.count_devices();
        changes
    }

    /// Returns the time without a record after which a device is forgotten. It lets every rule miss the
    /// device, and the alert of it stay for a while.
    fn forget_after_ms(&self) -> i64 {
        let longest_ms = self.rules.absence_windows().last().copied().unwrap_or_default();
        self.limits.forget_after_ms.max(2 * longest_ms)
    }

    /// Returns the devices of a partition that are missing from a known wearer.
    pub fn absent_users(&self, partition: i32) -> BTreeSet<DeviceSn> {
        let partition = self.partitions.get(&partition);
        partition.map_or_else(BTreeSet::new, |one| one.absent_users(&self.rules))
    }

    /// Closes the absences of those of the `asked` devices that belong to nobody any more. The platform
    /// binds those among `worn` to a user now.
    pub fn close_unbound(
        &mut self,
        partition: i32,
        asked: &[DeviceSn],
        worn: &BTreeSet<DeviceSn>,
    ) -> Vec<Change> {
        let Self { rules, zone, partitions, .. } = self;
        let partition = partitions.get_mut(&partition);
        partition.map_or_else(Vec::new, |one| one.close_unbound((asked, worn), rules, zone))
    }

    /// Drops a partition, and its changes that were not written.
    pub fn forget(&mut self, partition: i32) {
        self.partitions.remove(&partition);
        self.count_devices();
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
    ///
    /// Stops if people have to be looked up, see [`Self::resume`].
    pub fn evaluate<'a>(
        &mut self,
        partition: i32,
        arrival: impl Into<Arrival<'a>>,
        router: &dyn Router,
    ) -> Evaluated {
        let mut evaluated = Evaluated::default();
        self.resume(partition, arrival, router, &mut evaluated);
        evaluated
    }

    /// Goes on with an evaluation that stopped for [`Evaluated::unknown`] people. Most readings need
    /// no people, so nobody is looked up before a notification is due.
    pub fn resume<'a>(
        &mut self,
        partition: i32,
        arrival: impl Into<Arrival<'a>>,
        router: &dyn Router,
        evaluated: &mut Evaluated,
    ) {
        let arrival = arrival.into();
        let Self { rules, zone, partitions, devices, limits, last_evaluated_ms, .. } = self;
        evaluated.unknown.clear();
        let Some(partition) = partitions.get_mut(&partition) else { return };
        let known = partition.devices.len();
        let remaining = evaluated.remaining.take();
        if remaining.is_none() {
            evaluated.is_surplus = *devices >= limits.devices_max;
        }
        *last_evaluated_ms = arrival.evaluated_ms.max(*last_evaluated_ms);
        partition.last_evaluated_ms = arrival.evaluated_ms;
        let basis = Basis { rules, zone, router, now_ms: arrival.evaluated_ms };
        let begin = || partition.begin(&arrival, basis, evaluated);
        let Some(mut remaining) = remaining.or_else(begin) else { return };
        if !remaining.rules.is_empty() || !evaluated.changes.is_empty() {
            partition.step_rules(&mut remaining, arrival.reading, basis, evaluated);
        }
        if evaluated.unknown.is_empty() && evaluated.is_surplus {
            partition.drop_surplus(remaining.place);
        }
        *devices = *devices + partition.devices.len() - known;
        evaluated.remaining = Some(remaining);
    }

    /// Returns partitions in which data is missing for too long by wall time `now_ms`, though no
    /// record has shown it. Returns none while no partition has recent records: then the devices
    /// are not the cause.
    pub fn overdue(&self, now_ms: i64) -> Vec<i32> {
        if self.is_absence_suspended {
            return Vec::new();
        }
        let Some(shortest) = self.rules.absence_windows().first() else { return Vec::new() };
        let until = now_ms - IN_TRANSIT_MS;
        if self.last_evaluated_ms < until - shortest / 2 {
            return Vec::new();
        }
        let due = |partition: &Partition| partition.deadlines.first().is_some_and(|at| at <= until);
        self.partitions.iter().filter(|(_, one)| due(one)).map(|(number, _)| *number).collect()
    }

    /// Lets `passed_ms` pass since the last record of a partition whose records are all evaluated.
    /// The wall clock shows `now_ms`. Returns the changes, and the people to look up before the rest
    /// of them in another call.
    pub fn pass(
        &mut self,
        partition: i32,
        passed_ms: i64,
        now_ms: i64,
        router: &dyn Router,
    ) -> Progress {
        let Self { rules, zone, partitions, .. } = self;
        let Some(partition) = partitions.get_mut(&partition) else { return Default::default() };
        // The check that measured `passed_ms` may not know the last record yet. Without this bound, the
        // pause before that record would count after it.
        let passed_ms = passed_ms.min((now_ms - partition.last_evaluated_ms).abs());
        let until = partition.clock.clock_ms() + passed_ms - IN_TRANSIT_MS;
        partition.fall_due(until, Basis { rules, zone, router, now_ms })
    }

    /// Returns the partitions in which something owed is to be tried at wall time `now_ms`, and
    /// whether their records of until shortly before have been evaluated.
    pub fn due_looks(&mut self, now_ms: i64) -> BTreeMap<i32, bool> {
        let due = |(number, one): (&i32, &mut Partition)| {
            let is_due = !one.touched.owed.due(now_ms).is_empty();
            is_due.then(|| (*number, one.is_current(now_ms)))
        };
        self.partitions.iter_mut().filter_map(due).collect()
    }

    /// Tries at wall time `now_ms` to notify what is owed. Returns the changes, and the people to
    /// look up before the rest of them in another call. `at_end` tells whether the partition was
    /// read to its end: while records wait, nothing is tried that they may have ended long ago.
    pub fn look(
        &mut self,
        partition: i32,
        now_ms: i64,
        at_end: bool,
        router: &dyn Router,
    ) -> Progress {
        let Self { rules, zone, partitions, .. } = self;
        let Some(partition) = partitions.get_mut(&partition) else { return Default::default() };
        partition.look(Basis { rules, zone, router, now_ms }, at_end)
    }

    /// Returns all episodes that owe a notification.
    pub fn owed(&self) -> impl Iterator<Item = OwedEpisode> {
        self.partitions.values().flat_map(Partition::owed)
    }

    /// Brings a partition in line with the active rules. State of another rule version becomes
    /// quiet, and so does state of a rule that no longer concerns the device. The active rules
    /// restart the checks for missing data.
    pub fn realign(&mut self, partition: i32) -> Vec<Change> {
        let Self { rules, zone, partitions, .. } = self;
        partitions.get_mut(&partition).map_or_else(Vec::new, |one| one.realign(rules, zone))
    }

    /// Returns the changes of a partition since the last call.
    pub fn take_changes(&mut self, partition: i32) -> StateChanges {
        let partition = self.partitions.get_mut(&partition);
        partition.map_or_else(StateChanges::default, Partition::take_changes)
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
