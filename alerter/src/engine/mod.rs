//! Rules against readings: which episodes begin, go on and end, partition by partition.
//!
//! Pure: holds the state of every device of the owned partitions in memory, performs no I/O, knows
//! no clock. [`crate::pipeline`] feeds it and writes down what changed.

pub mod episode;
pub mod journal;

#[cfg(test)]
mod model_tests;

pub mod no_data;
mod persisted_state;
mod rule_change;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indexmap::IndexMap;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ljwx_reading::{DeviceSn, Ids, Reading};
use serde::{Deserialize, Serialize};

use crate::engine::episode::evaluate::{Memory, leaves_quiet};
use crate::engine::episode::{Episode, Transition};
use crate::engine::journal::Length;
use crate::engine::no_data::deadlines::Watchlist;
use crate::engine::no_data::partition_clock::Hearing;
use crate::rules::rule::{Rule, Verdict};
use crate::rules::severity::Severity;
use crate::rules::vital::Seen;
use crate::rules::{RuleSet, TEMPLATE_TENANT};

pub use self::persisted_state::{StateChanges, Stored};

/// Where one rule stands on one device, as it is kept between readings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tracked {
    /// Version of the rule that this state belongs to; kept in a column of its own.
    #[serde(skip)]
    pub version: i64,
    /// Whose reading last moved it: an episode's later notices go to the people of its opening.
    #[serde(default)]
    pub ids: Ids,
    /// The course so far.
    pub episode: Episode,
    /// What the rule remembers beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

impl Tracked {
    fn is_blank(&self) -> bool {
        self.episode.is_blank() && self.memory.is_none()
    }
}

/// A device's last sign of life, whatever it said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// Kafka record time, in milliseconds; 0: not known.
    pub at: i64,
    /// Whose device it was.
    pub ids: Ids,
}

/// What is known of one device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Device {
    /// When each sign was last reported.
    pub seen: Seen,
    /// When it was heard last.
    pub heard: Heard,
    /// By rule; a rule with nothing to remember has no entry.
    pub tracked: BTreeMap<i64, Tracked>,
    /// Whether it was heard since what changed was last asked for.
    moved: bool,
}

impl Device {
    /// Notes, once, that the device at this place is to be written.
    fn moves(&mut self, place: usize, moved: &mut Vec<usize>) {
        if !std::mem::replace(&mut self.moved, true) {
            moved.push(place);
        }
    }
}

/// Devices of a partition. None is ever taken out, so that each keeps its place.
pub type Devices = IndexMap<DeviceSn, Device, ahash::RandomState>;

/// What became of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its news were judged.
    Judged,
    /// It brought no news: every sign it carries was seen as late or later.
    Late,
    /// The device's clock runs ahead; it was not judged.
    Ahead,
}

/// A reading as it came.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// What it says.
    pub reading: &'a Reading,
    /// Whose it is: as it says, else as its device is bound.
    pub ids: Ids,
    /// Kafka record time, in milliseconds.
    pub kafka_ms: i64,
}

/// As the gateway received it, and of whom it says it is.
impl<'a> From<&'a Reading> for Arrival<'a> {
    fn from(reading: &'a Reading) -> Self {
        Self { reading, ids: reading.ids(), kafka_ms: reading.received_at_ms() }
    }
}

/// When something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds: event time of a reading, record time of an absence.
    pub ms: i64,
    /// The same as a wall clock: the device's own, or the zone's.
    pub wall: DateTime,
}

/// A transition and what caused it.
#[derive(Debug, Clone)]
pub struct Change {
    /// The rule, as it was when it caused the transition; unknown where the change is its removal.
    pub rule: Option<Arc<Rule>>,
    /// Number and version that name the episode, with the device and the opening.
    pub rule_id: i64,
    /// See `rule_id`.
    pub rule_version: i64,
    /// The device.
    pub device_sn: DeviceSn,
    /// Whose episode it is.
    pub ids: Ids,
    /// What happened.
    pub transition: Transition,
    /// What was seen.
    pub verdict: Verdict,
    /// When.
    pub at: Moment,
    /// Where the rule stood before.
    pub before: Episode,
}

/// What a reading led to.
#[derive(Debug)]
pub struct Judged {
    /// What became of it.
    pub outcome: Outcome,
    /// Rules it breached.
    pub breaches: u64,
    /// What changed, in the order of the rules.
    pub changes: Vec<Change>,
}

#[derive(Debug, Default)]
struct Partition {
    devices: Devices,
    journal: Length,
    hearing: Hearing,
    /// Whether its clock is to be written.
    heard: bool,
    /// Whether since when its windows count is to be written.
    windows_moved: bool,
    watchlist: Watchlist,
    /// Places of the devices that are to be written.
    moved: Vec<usize>,
    stepped: BTreeSet<(i64, DeviceSn)>,
}

/// The state of the owned partitions and the rules in force.
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
    /// Owns nothing yet; absences are dated in `zone`.
    pub fn new(zone: TimeZone) -> Self {
        Self { rules: Arc::default(), zone, partitions: BTreeMap::new() }
    }

    /// Takes a partition over with the state that was stored for it; [`Self::realign`] has to follow.
    pub fn load(&mut self, partition: i32, stored: Stored) {
        let Stored { devices, journal, hearing } = stored;
        let loaded = Partition { devices, journal, hearing, ..Partition::default() };
        self.partitions.insert(partition, loaded);
    }

    /// Forgets a partition, and whatever of it was not written.
    pub fn forget(&mut self, partition: i32) {
        self.partitions.remove(&partition);
    }

    /// The partitions it has.
    pub fn partitions(&self) -> Vec<i32> {
        self.partitions.keys().copied().collect()
    }

    /// Judges by `rules` from now on; [`Self::realign`] brings a partition's state in line.
    pub fn set_rules(&mut self, rules: Arc<RuleSet>) {
        self.rules = rules;
    }

    /// Judges one reading: first what its record time says of silent devices, then the end of its
    /// own device's absence, then its news. A partition that was never loaded has no news.
    pub fn judge<'a>(&mut self, partition: i32, arrival: impl Into<Arrival<'a>>) -> Judged {
        let arrival = arrival.into();
        let reading = arrival.reading;
        let mut judged = Judged { outcome: Outcome::Ahead, breaches: 0, changes: Vec::new() };
        let Self { rules, zone, partitions } = self;
        let Some(partition) = partitions.get_mut(&partition) else { return judged };
        let place = partition.hears(&arrival, rules, zone, &mut judged.changes);
        if reading.ahead_of_clock() {
            return judged;
        }
        let device = &mut partition.devices[place];
        let carried = device.seen.note(reading);
        if carried.fresh.is_empty() {
            judged.outcome = if carried.all.is_empty() { Outcome::Judged } else { Outcome::Late };
            return judged;
        }
        judged.outcome = Outcome::Judged;
        device.moves(place, &mut partition.moved);
        let tenant = arrival.ids.customer_id.unwrap_or(TEMPLATE_TENANT);
        let (fresh, rules) = (carried.fresh, rules.of(tenant));
        let concerned = if rules.is_quiet(fresh, reading.vitals()) {
            rules.concerned_of(device.tracked.keys().copied(), fresh)
        } else {
            rules.concerned(fresh)
        };
        for rule in concerned {
            if rule.is_past(reading.epoch_ms(), &device.seen) {
                continue;
            }
            let tracked = !device.tracked.is_empty() && device.tracked.contains_key(&rule.id);
            if !tracked && leaves_quiet(rule, fresh, reading) {
                continue;
            }
            let (verdict, change) =
                step::step(device, rule, fresh, &arrival, &mut partition.stepped);
            judged.breaches += u64::from(matches!(verdict, Verdict::Breach { .. }));
            if let Some(change) = change {
                no_data::watch_opened(
                    &mut partition.watchlist,
                    &partition.hearing,
                    device,
                    &change,
                );
                judged.changes.push(change);
            }
        }
        judged
    }

    /// Takes back that `change` was told, because nobody could be.
    pub fn untold(&mut self, partition: i32, change: &Change) {
        let tracked = self
            .partitions
            .get_mut(&partition)
            .and_then(|partition| partition.devices.get_mut(&change.device_sn))
            .and_then(|device| device.tracked.get_mut(&change.rule_id));
        if let Some(tracked) = tracked {
            let episode = std::mem::take(&mut tracked.episode);
            tracked.episode = episode.untold(&change.before, change.transition.to);
        }
    }

    /// Open episodes by severity, over all partitions.
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

    /// How many states of a rule on a device are in memory.
    pub fn states(&self) -> usize {
        let devices = self.partitions.values().flat_map(|partition| partition.devices.values());
        devices.map(|device| device.tracked.len()).sum()
    }
}

/// A record time as a moment in `zone`.
fn moment(zone: &TimeZone, ms: i64) -> Moment {
    // Record times are those of Kafka, far inside what a timestamp can hold.
    let instant = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let wall = zone.to_datetime(instant);
    Moment { ms, wall: wall.with().subsec_nanosecond(0).build().unwrap_or(wall) }
}

#[cfg(test)]
mod tests;
