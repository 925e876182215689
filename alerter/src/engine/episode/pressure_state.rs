//! Counts the readings of one second as one for a rule on blood pressure, whose two values may come in
//! two readings.
//!
//! Pure. Rules on other vitals evaluate one reading of a second only.

use ljwx_reading::Reading;
use serde::{Deserialize, Serialize};

use crate::engine::episode::Episode;
use crate::engine::episode::value_window::ValueWindow;
use crate::rules::Verdict;

/// How many values a blood pressure has.
const VALUES: usize = 2;

/// The state of a rule on blood pressure, beside the episode.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PressureState {
    /// The latest values, from which the usual range follows.
    #[serde(default, skip_serializing_if = "ValueWindow::is_empty")]
    pub values: ValueWindow,
    /// The second that was evaluated last, unless it brought both values at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    second: Option<Second>,
}

/// A second whose other value may come in another reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Second {
    /// Event time, in milliseconds.
    at: i64,
    /// The rank of the second's verdict.
    rank: u8,
    /// The episode before the second, while the second has made no transition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Episode>,
}

impl PressureState {
    /// The state of a rule that has evaluated no second, with these latest values.
    pub fn of_values(values: ValueWindow) -> Self {
        Self { values, ..Self::default() }
    }

    /// Takes the verdict on a reading with so many of the two values, if the present episode is
    /// `now`. Returns the episode from which the second goes on, and the verdict that the reading
    /// adds to it: none if an earlier reading of the second weighs as much.
    pub fn merge(
        &mut self,
        reading: &Reading,
        values: usize,
        now: Episode,
        verdict: Verdict,
    ) -> (Episode, Verdict) {
        let (at, rank) = (reading.epoch_ms(), rank(&verdict));
        let Some(second) = self.second.as_mut().filter(|second| second.at == at) else {
            // Usually both values come together. Then nothing has to be kept or stored.
            self.second = (values < VALUES).then(|| Second { at, rank, before: Some(now.clone()) });
            return (now, verdict);
        };
        if rank <= second.rank {
            return (now, Verdict::Absent);
        }
        second.rank = rank;
        (second.before.clone().unwrap_or(now), verdict)
    }

    /// Records that this second made a transition. The rest of the second does not revert it.
    pub fn transition_made(&mut self) {
        if let Some(second) = &mut self.second {
            second.before = None;
        }
    }

    /// Whether dropping the state loses nothing.
    pub fn is_default(&self) -> bool {
        self.values.is_empty() && self.second.as_ref().is_none_or(Second::is_default)
    }
}

impl Second {
    /// Whatever else the second brings weighs more than a clear reading.
    fn is_default(&self) -> bool {
        self.rank <= CLEAR && self.before.as_ref().is_some_and(Episode::is_default)
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
