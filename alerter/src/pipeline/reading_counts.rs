//! Counts the outcomes of readings: of a batch for the metrics, and of the last minutes to watch the
//! clocks of gateways and devices.
//!
//! [`crate::engine`] decides the outcome of a reading, and which clock is ahead. A device whose clock
//! is wrong is not monitored, and a gateway whose clock is wrong dates its readings wrong, so operators
//! are notified.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use metrics::counter;

use crate::engine::{Evaluated, ReadingOutcome};
use crate::metrics::{BREACHES, NOT_REMEMBERED, READINGS};
use crate::notify::operator_events::{LastingEvent, OperatorEvents};

/// Time over which readings are counted.
const WINDOW: Duration = Duration::from_secs(5 * 60);

/// Share of readings ahead of the clock, in percent, above which operators are notified.
const AHEAD_PERCENT_MAX: u64 = 20;

/// Readings of a window below which the share of those ahead says little.
const READINGS_MIN: u64 = 10;

/// The outcomes of a batch's readings. Finding a counter takes longer than evaluating a reading.
#[derive(Debug, Default)]
pub(super) struct ReadingCounts {
    evaluated: u64,
    late: u64,
    ahead: u64,
    pub(super) undecodable: u64,
    /// Replayed dead letters of devices that have moved to another partition.
    pub(super) moved: u64,
    breaches: u64,
    surplus: u64,
    /// Records whose time is ahead of the wall clock.
    gateway_ahead: u64,
}

impl ReadingCounts {
    /// Adds the outcome of a reading.
    pub(super) fn add(&mut self, evaluated: &Evaluated) {
        *match evaluated.outcome {
            ReadingOutcome::Evaluated => &mut self.evaluated,
            ReadingOutcome::Late => &mut self.late,
            ReadingOutcome::AheadOfClock => &mut self.ahead,
        } += 1;
        self.breaches += evaluated.breaches;
        self.surplus += u64::from(evaluated.is_surplus);
        self.gateway_ahead += u64::from(evaluated.gateway_ahead);
    }
}

/// Counts the readings of the present window.
pub(super) struct ClockWatch {
    operators: OperatorEvents,
    since: Instant,
    readings: u64,
    ahead: u64,
    gateway_ahead: u64,
}

impl ClockWatch {
    /// Reports to `operators`.
    pub(super) fn new(operators: OperatorEvents) -> Self {
        Self { operators, since: Instant::now(), readings: 0, ahead: 0, gateway_ahead: 0 }
    }

    /// Adds the counts of a batch to the metrics, and to the window.
    pub(super) fn count(&mut self, batch: &ReadingCounts) {
        let ReadingCounts { evaluated, late, ahead, undecodable, moved, .. } = *batch;
        for (outcome, readings) in [
            ("evaluated", evaluated),
            ("late", late),
            ("ahead_of_clock", ahead),
            ("undecodable", undecodable),
            ("moved", moved),
        ] {
            counter!(READINGS, "outcome" => outcome).increment(readings);
        }
        counter!(BREACHES).increment(batch.breaches);
        counter!(NOT_REMEMBERED).increment(batch.surplus);
        self.readings += evaluated + late + ahead;
        self.ahead += ahead;
        self.gateway_ahead += batch.gateway_ahead;
    }

    /// Reports what the counts show, and begins the next window when this one is over. A gateway is
    /// reported at once. A window without readings shows nothing.
    ///
    /// Every replica reports: no other one evaluates its readings.
    pub(super) fn report(&mut self) {
        let (now, speaks) = (Timestamp::now(), true);
        let is_over = self.since.elapsed() >= WINDOW;
        if self.gateway_ahead > 0 || is_over && self.readings > 0 {
            self.operators.lasting(LastingEvent::GatewayClock, self.gateway_ahead, now, speaks);
        }
        if !is_over {
            return;
        }
        if let Some(count) = too_many(self.ahead, self.readings) {
            self.operators.lasting(LastingEvent::ClockAhead, count, now, speaks);
        }
        *self = Self::new(self.operators.clone());
    }
}

/// Returns the readings `ahead` of the clock, or 0 if they are not too many of all `readings`.
/// `None`: too few readings to tell.
fn too_many(ahead: u64, readings: u64) -> Option<u64> {
    let is_too_many = ahead * 100 > readings * AHEAD_PERCENT_MAX;
    (readings >= READINGS_MIN).then_some(if is_too_many { ahead } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_readings_may_be_ahead_of_the_clock() {
        let readings = [(0, 0), (9, 9), (0, 10), (2, 10), (3, 10), (20, 100), (21, 100)];
        let counts = readings.map(|(ahead, readings)| too_many(ahead, readings));
        assert_eq!(counts, [None, None, Some(0), Some(0), Some(3), Some(0), Some(21)]);
    }
}
