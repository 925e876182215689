//! The input of the engine, and the outcome of a reading or of missing data.
//!
//! Pure. [`crate::pipeline`] writes the outcome.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ljwx_reading::{DeviceSn, Ids, Reading};

use crate::engine::device::Silence;
use crate::engine::episode::{EpisodeKey, Transition};
use crate::engine::routing::OwedReason;
use crate::rules::{Rule, Severity, Verdict, VitalSet};

/// Changes that one look of the clock makes at most, or one record among devices that are missing. The
/// others stay due: a transaction that takes longer than its limit would fail at every attempt.
pub(super) const CHANGES_MAX: usize = 500;

/// The outcome of a reading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReadingOutcome {
    /// The reading was evaluated.
    Evaluated,
    /// The reading is late: every vital that it carries was already seen at this time or later.
    Late,
    /// The device's clock runs ahead; the reading was not evaluated.
    #[default]
    AheadOfClock,
}

/// A reading as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The reading.
    pub reading: &'a Reading,
    /// User, organisation and tenant: from the reading, else from the device's binding.
    pub ids: Ids,
    /// Whether the user is that of the device's binding.
    pub is_bound: bool,
    /// Whether an operator sent the reading again, and not its device.
    pub is_replayed: bool,
    /// Kafka record time, in milliseconds.
    pub kafka_ms: i64,
    /// Wall clock of the evaluation, in milliseconds.
    pub evaluated_ms: i64,
}

/// Takes the receipt as record time and wall clock, and the ids from the reading.
impl<'a> From<&'a Reading> for Arrival<'a> {
    fn from(reading: &'a Reading) -> Self {
        let kafka_ms = reading.received_at_ms();
        Self {
            reading,
            ids: reading.ids(),
            is_bound: false,
            is_replayed: false,
            kafka_ms,
            evaluated_ms: kafka_ms,
        }
    }
}

/// The changes that were made, and the people to look up before the rest of them.
pub type Progress = (Vec<Change>, BTreeSet<Ids>);

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
    /// What the device sends, if it is missing.
    pub silence: Silence,
}

impl Change {
    /// Returns the key of the episode.
    pub fn key(&self) -> EpisodeKey {
        EpisodeKey::new(self.rule_id, self.rule_version, &self.device_sn, self.transition.opened_at)
    }
}

/// An open episode that owes a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwedEpisode {
    /// The tenant.
    pub customer_id: Option<i64>,
    /// Current severity.
    pub severity: Severity,
    /// Why the last try reached no one.
    pub reason: OwedReason,
}

/// The rest of an evaluation.
#[derive(Debug)]
pub(super) struct RemainingRules {
    /// Place of the device in its partition.
    pub(super) place: usize,
    /// Vitals that are newer than before.
    pub(super) fresh: VitalSet,
    /// The rules that the reading affects, the next one last.
    pub(super) rules: Vec<Arc<Rule>>,
}

/// The result of evaluating a reading.
#[derive(Debug, Default)]
pub struct Evaluated {
    /// The outcome.
    pub outcome: ReadingOutcome,
    /// Rules that the reading breached.
    pub breaches: u64,
    /// Transitions, in the order of the rules.
    pub changes: Vec<Change>,
    /// People to look up before the evaluation can go on. Empty: the evaluation is done.
    pub unknown: BTreeSet<Ids>,
    /// Whether the record's time is ahead of the wall clock: the gateway's clock is wrong.
    pub gateway_ahead: bool,
    /// Whether the device is not remembered, because too many devices are known.
    pub is_surplus: bool,
    /// `None`: the record is not noted yet.
    pub(super) remaining: Option<RemainingRules>,
}

/// Returns a time as a moment in `zone`.
pub(super) fn moment(zone: &TimeZone, ms: i64) -> EventTime {
    // Record times of Kafka lie far inside the range of a timestamp.
    let instant = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let wall = zone.to_datetime(instant);
    EventTime { ms, wall: wall.with().subsec_nanosecond(0).build().unwrap_or(wall) }
}
