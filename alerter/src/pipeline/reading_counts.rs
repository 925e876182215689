//! Counts the outcomes of readings in memory, and adds them to the metrics once a batch.
//!
//! [`crate::engine`] decides the outcome of a reading.

use metrics::counter;

use crate::engine::{Judged, Outcome};
use crate::metrics::{BREACHES, READINGS};

/// The outcomes of readings since the last export. Finding a counter takes longer than evaluating a
/// reading.
#[derive(Debug, Default)]
pub(super) struct Tally {
    judged: u64,
    late: u64,
    ahead: u64,
    pub(super) undecodable: u64,
    breaches: u64,
}

impl Tally {
    /// Adds the outcome of a reading.
    pub(super) fn add(&mut self, judged: &Judged) {
        *match judged.outcome {
            Outcome::Judged => &mut self.judged,
            Outcome::Late => &mut self.late,
            Outcome::Ahead => &mut self.ahead,
        } += 1;
        self.breaches += judged.breaches;
    }

    /// Adds the counts to the metrics, and resets them.
    pub(super) fn count(&mut self) {
        let Self { judged, late, ahead, undecodable, breaches } = std::mem::take(self);
        let outcomes =
            [("judged", judged), ("late", late), ("ahead", ahead), ("undecodable", undecodable)];
        for (outcome, readings) in outcomes {
            counter!(READINGS, "outcome" => outcome).increment(readings);
        }
        counter!(BREACHES).increment(breaches);
    }
}
