//! Counts the readings of one second as one for a rule on blood pressure, whose two values may come in
//! two readings.
//!
//! Pure. Rules on other vitals evaluate one reading of a second only.

use serde::{Deserialize, Serialize};

use crate::engine::episode::Episode;
use crate::engine::episode::value_window::ValueWindow;
use crate::rules::verdict::Verdict;

/// The state of a rule on blood pressure, beside the episode.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PressureState {
    /// The latest values, from which the usual range follows.
    #[serde(default, skip_serializing_if = "ValueWindow::is_empty")]
    pub values: ValueWindow,
    /// The second that was evaluated last, in milliseconds.
    at: i64,
    /// The rank of that second's verdict.
    rank: u8,
    /// The episode before that second, while the second has made no transition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Episode>,
}

impl PressureState {
    /// The state of a rule that has evaluated no second, with these latest values.
    pub fn of_values(values: ValueWindow) -> Self {
        Self { values, ..Self::default() }
    }

    /// Takes the verdict on a reading at `at`, if the present episode is `now`. Returns the episode
    /// from which the second goes on, and the verdict that the reading adds to it: none if an earlier
    /// reading of the second weighs as much.
    pub fn merge(&mut self, at: i64, now: Episode, verdict: Verdict) -> (Episode, Verdict) {
        let rank = rank(&verdict);
        if at != self.at {
            (self.at, self.rank, self.before) = (at, rank, Some(now.clone()));
            return (now, verdict);
        }
        if rank <= self.rank {
            return (now, Verdict::Absent);
        }
        self.rank = rank;
        (self.before.clone().unwrap_or(now), verdict)
    }

    /// Records that this second made a transition. The rest of the second does not revert it.
    pub fn transition_made(&mut self) {
        self.before = None;
    }

    /// Whether dropping the state loses nothing.
    pub fn is_default(&self) -> bool {
        // Whatever else the second brings weighs more than a clear reading.
        self.values.is_empty()
            && self.rank <= CLEAR
            && self.before.as_ref().is_some_and(Episode::is_default)
    }
}

/// The rank of a clear reading.
const CLEAR: u8 = 1;

fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Absent => 0,
        Verdict::Clear(_) => CLEAR,
        Verdict::Between(_) => 2,
        Verdict::Breach { .. } => 3,
    }
}
