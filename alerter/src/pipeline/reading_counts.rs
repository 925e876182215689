//! What became of readings, counted in memory and added to the metrics once a batch.
//!
//! What becomes of a reading is for [`crate::engine`] to say.

use metrics::counter;

use crate::engine::{Judged, Outcome};
use crate::metrics::{BREACHES, READINGS};

/// What became of readings since it was last counted: finding a counter takes longer than judging a
/// reading does.
#[derive(Debug, Default)]
pub(super) struct Tally {
    judged: u64,
    late: u64,
    ahead: u64,
    pub(super) undecodable: u64,
    breaches: u64,
}

impl Tally {
    /// Adds what became of a reading.
    pub(super) fn add(&mut self, judged: &Judged) {
        *match judged.outcome {
            Outcome::Judged => &mut self.judged,
            Outcome::Late => &mut self.late,
            Outcome::Ahead => &mut self.ahead,
        } += 1;
        self.breaches += judged.breaches;
    }

    /// Adds it to the metrics.
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
