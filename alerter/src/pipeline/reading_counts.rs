//! Counts the outcomes of readings in memory, and adds them to the metrics once a batch.
//!
//! [`crate::engine`] decides the outcome of a reading.

use metrics::counter;

use crate::engine::{Evaluated, ReadingOutcome};
use crate::metrics::{BREACHES, NOT_REMEMBERED, READINGS};

/// The outcomes of readings since the last export. Finding a counter takes longer than evaluating a
/// reading.
#[derive(Debug, Default)]
pub(super) struct ReadingCounts {
    evaluated: u64,
    late: u64,
    ahead: u64,
    pub(super) undecodable: u64,
    breaches: u64,
    surplus: u64,
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
    }

    /// Adds the counts to the metrics, and resets them.
    pub(super) fn count(&mut self) {
        let Self { evaluated, late, ahead, undecodable, breaches, surplus } = std::mem::take(self);
        let outcomes = [
            ("evaluated", evaluated),
            ("late", late),
            ("ahead_of_clock", ahead),
            ("undecodable", undecodable),
        ];
        for (outcome, readings) in outcomes {
            counter!(READINGS, "outcome" => outcome).increment(readings);
        }
        counter!(BREACHES).increment(breaches);
        counter!(NOT_REMEMBERED).increment(surplus);
    }
}
