//! Tracks since when the conditions of a rule have held on one device.
//!
//! Pure: event time comes as an argument. Readings of one second count as one, in any order. The
//! definition of a condition belongs to [`crate::rules::condition`].

use ljwx_reading::Reading;
use serde::{Deserialize, Serialize};

use crate::engine::episode::Episode;
use crate::rules::{Composite, Measurement, VitalSet};

/// The state of one condition on one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct ConditionSince {
    /// First reading since which the condition has been true on every reading.
    now: Option<i64>,
    /// The value of `now` before the second that was evaluated last.
    before: Option<i64>,
}

/// The state of a rule's conditions on one device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ConditionState {
    /// The second that was evaluated last, in milliseconds.
    at: i64,
    since: Vec<ConditionSince>,
    /// The episode before that second, while the second has made no transition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Episode>,
}

impl ConditionState {
    /// Returns the episode that a reading at `at` continues, if the present episode is `now`.
    /// Seconds arrive in order: `is_past` of [`crate::engine`] keeps older seconds out.
    pub fn begin(&mut self, at: i64, now: &Episode) -> Episode {
        if at == self.at {
            // After a transition the rest of the second continues from there, and still counts
            // once.
            return self.before.get_or_insert_with(|| now.clone()).clone();
        }
        self.at = at;
        for since in &mut self.since {
            // The condition is not true in this second before a reading shows it.
            *since = ConditionSince { now: None, before: since.now };
        }
        self.before = Some(now.clone());
        now.clone()
    }

    /// Records that this second made a transition. The rest of the second does not revert it.
    pub fn transition_made(&mut self) {
        self.before = None;
    }

    /// Whether dropping the state loses nothing.
    pub fn is_default(&self) -> bool {
        self.since.iter().all(|since| *since == ConditionSince::default())
            && self.before.as_ref().is_none_or(Episode::is_default)
    }

    /// Evaluates the `fresh` vitals of a reading. If a condition's vital was already reported in
    /// this second, the condition keeps its result. Call [`Self::begin`] first.
    ///
    /// Returns the value that decided, or the first value that could have, and the threshold of the
    /// value's condition if the rule as a whole is breached.
    pub fn evaluate(
        &mut self,
        composite: &Composite,
        fresh: VitalSet,
        reading: &Reading,
    ) -> Option<(Measurement, Option<f64>)> {
        let (at, vitals) = (self.at, reading.vitals());
        self.since.resize(composite.conditions.len(), ConditionSince::default());
        let mut decides = None;
        let mut count = 0;
        for (condition, since) in composite.conditions.iter().zip(&mut self.since) {
            let true_value = fresh.contains(condition.vital).then(|| condition.true_value(vitals));
            if let Some(true_value) = true_value {
                // The two pressures of a second may come in two readings: one of them suffices.
                since.now = true_value.map(|_| since.before.unwrap_or(at)).or(since.now);
            }
            let holds = since.now.is_some_and(|since| at - since >= condition.duration_ms);
            count += usize::from(holds);
            if holds && let Some(Some(measured)) = true_value {
                decides = decides.or(Some((measured, Some(condition.threshold))));
            }
        }
        let carried = composite.watched_vitals().find_map(|vital| vital.values(vitals).next());
        let measured = carried.map(|(vital, value)| Measurement { vital, value });
        let breached = if composite.all { count == composite.conditions.len() } else { count > 0 };
        if !breached {
            return Some((measured?, None));
        }
        // The value that decided may have come with another reading of the second.
        let bound = Some(composite.conditions.first()?.threshold);
        decides.or_else(|| Some((measured?, bound)))
    }
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;
