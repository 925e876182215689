//! The input of the engine, and the outcome of a reading or of missing data.
//!
//! Pure. [`crate::pipeline`] writes the outcome.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ljwx_reading::{DeviceSn, Ids, Reading};

use crate::engine::episode::{Episode, Transition};
use crate::rules::rule::Rule;
use crate::rules::verdict::Verdict;

/// The outcome of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadingOutcome {
    /// The reading was evaluated.
    Evaluated,
    /// The reading is late: every vital that it carries was already seen at this time or later.
    Late,
    /// The device's clock runs ahead; the reading was not evaluated.
    AheadOfClock,
}

/// A reading as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The reading.
    pub reading: &'a Reading,
    /// User, organisation and tenant: from the reading, else from the device's binding.
    pub ids: Ids,
    /// Kafka record time, in milliseconds.
    pub kafka_ms: i64,
}

/// Takes the receipt as record time, and the ids from the reading.
impl<'a> From<&'a Reading> for Arrival<'a> {
    fn from(reading: &'a Reading) -> Self {
        Self { reading, ids: reading.ids(), kafka_ms: reading.received_at_ms() }
    }
}

/// The time of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTime {
    /// Milliseconds: event time of a reading, or record time of missing data.
    pub ms: i64,
    /// The same time as a wall clock: the device's own, or the zone's.
    pub wall: DateTime,
}

/// A transition and its cause.
#[derive(Debug, Clone)]
pub struct Change {
    /// The rule as it was at the transition; `None`: the rule changed or was removed.
    pub rule: Option<Arc<Rule>>,
    /// Number of the rule. Number, version, device and opening name the episode.
    pub rule_id: i64,
    /// Version of the rule, see `rule_id`.
    pub rule_version: i64,
    /// The device.
    pub device_sn: DeviceSn,
    /// User, organisation and tenant of the episode.
    pub ids: Ids,
    /// The transition.
    pub transition: Transition,
    /// The verdict that caused it.
    pub verdict: Verdict,
    /// Time of the transition.
    pub at: EventTime,
    /// The episode before the transition.
    pub before: Episode,
}

/// The result of evaluating a reading.
#[derive(Debug)]
pub struct Evaluated {
    /// The outcome.
    pub outcome: ReadingOutcome,
    /// Rules that the reading breached.
    pub breaches: u64,
    /// Transitions, in the order of the rules.
    pub changes: Vec<Change>,
}

/// Returns a record time as a moment in `zone`.
pub(super) fn moment(zone: &TimeZone, ms: i64) -> EventTime {
    // Record times of Kafka lie far inside the range of a timestamp.
    let instant = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let wall = zone.to_datetime(instant);
    EventTime { ms, wall: wall.with().subsec_nanosecond(0).build().unwrap_or(wall) }
}
