//! What comes to the engine, and what a reading or an absence led to.
//!
//! Pure. [`crate::pipeline`] writes it down.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ljwx_reading::{DeviceSn, Ids, Reading};

use crate::engine::episode::{Episode, Transition};
use crate::rules::rule::Rule;
use crate::rules::verdict::Verdict;

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

/// A record time as a moment in `zone`.
pub(super) fn moment(zone: &TimeZone, ms: i64) -> Moment {
    // Record times are those of Kafka, far inside what a timestamp can hold.
    let instant = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let wall = zone.to_datetime(instant);
    Moment { ms, wall: wall.with().subsec_nanosecond(0).build().unwrap_or(wall) }
}
