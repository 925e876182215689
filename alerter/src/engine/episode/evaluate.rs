//! Evaluates a reading by a rule, with the rule's state on the device between readings.
//!
//! Pure. The engine keeps the state beside the episode.

use ljwx_reading::Reading;
use serde::{Deserialize, Serialize};

use crate::engine::episode::Episode;
use crate::engine::episode::condition_state::ConditionState;
use crate::engine::episode::pressure_state::PressureState;
use crate::engine::episode::value_window::ValueWindow;
use crate::rules::{ActiveHours, Measurement, Range, Rule, Trigger, Verdict, Vital, VitalSet};

/// The state of a rule on a device, beside the episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvaluationState {
    /// Since when the conditions have held.
    Conditions(ConditionState),
    /// The latest values, from which the usual range follows.
    #[serde(rename = "recent")]
    ValueWindow(ValueWindow),
    /// Of a rule on blood pressure: the second evaluated last, and the latest values.
    Pressure(PressureState),
}

impl EvaluationState {
    /// Records that a transition was made.
    pub fn transition_made(&mut self) {
        match self {
            Self::Conditions(held) => held.transition_made(),
            Self::Pressure(pressure) => pressure.transition_made(),
            Self::ValueWindow(_) => {}
        }
    }

    /// Whether dropping the state loses nothing.
    pub fn is_default(&self) -> bool {
        match self {
            Self::Conditions(held) => held.is_default(),
            Self::ValueWindow(_) => false,
            Self::Pressure(pressure) => pressure.is_default(),
        }
    }
}

/// Returns the verdict of `rule` on the `fresh` vitals of a reading, and the episode from which it
/// continues.
///
/// For conditions and blood pressure this is the episode before the reading's second, while that
/// second has made no transition.
pub fn evaluate(
    rule: &Rule,
    now: Episode,
    memory: Option<EvaluationState>,
    fresh: VitalSet,
    reading: &Reading,
) -> (Episode, Verdict, Option<EvaluationState>) {
    match &rule.trigger {
        Trigger::Range(range) if range.vital == Vital::BloodPressure => {
            let mut pressure = match memory {
                Some(EvaluationState::Pressure(pressure)) => pressure,
                // An older release stored the values alone.
                Some(EvaluationState::ValueWindow(values)) => PressureState::of_values(values),
                _ => PressureState::default(),
            };
            let verdict = in_range(range, &rule.effective, &mut pressure.values, reading);
            let values = range.vital.values(reading.vitals()).count();
            let (before, verdict) = pressure.merge(reading, values, now, verdict);
            (before, verdict, Some(EvaluationState::Pressure(pressure)))
        }
        Trigger::Range(range) => {
            let mut recent = match memory {
                Some(EvaluationState::ValueWindow(recent)) => recent,
                _ => ValueWindow::default(),
            };
            let verdict = in_range(range, &rule.effective, &mut recent, reading);
            (now, verdict, range.deviation.map(|_| EvaluationState::ValueWindow(recent)))
        }
        // No reading carries missing data.
        Trigger::NoData(_) => (now, Verdict::Absent, memory),
        Trigger::Conditions(composite) => {
            let mut held = match memory {
                Some(EvaluationState::Conditions(held)) => held,
                _ => ConditionState::default(),
            };
            let before = held.begin(reading.epoch_ms(), &now);
            let verdict = match held.evaluate(composite, fresh, reading) {
                None => Verdict::Absent,
                Some((measured, None)) => Verdict::Clear(measured),
                Some((measured, Some(bound))) => {
                    let may_open = rule.effective.holds(reading.timestamp());
                    Verdict::Breach { measured, bound, may_open }
                }
            };
            (before, verdict, Some(EvaluationState::Conditions(held)))
        }
    }
}

/// Whether the `fresh` vitals of a reading cannot change a rule without state on the device. Fast
/// path: most readings change the state of no rule.
pub fn cannot_change_state(rule: &Rule, fresh: VitalSet, reading: &Reading) -> bool {
    match &rule.trigger {
        Trigger::Range(Range { deviation: Some(_), .. }) => false,
        Trigger::Range(range) => {
            let mut values = range.vital.values(reading.vitals());
            values.all(|(_, value)| range.thresholds.broken_by(value).is_none())
        }
        Trigger::Conditions(composite) => !composite.any_true(fresh, reading),
        Trigger::NoData(_) => true,
    }
}

fn in_range(
    range: &Range,
    effective: &ActiveHours,
    recent: &mut ValueWindow,
    reading: &Reading,
) -> Verdict {
    let (mut broken, mut between, mut clear) = (None, None, None);
    for (vital, value) in range.vital.values(reading.vitals()) {
        let measured = Measurement { vital, value };
        // Every value enters the mean, even if the reading is already a breach.
        let unusual = range
            .deviation
            .and_then(|usual| recent.broken_by(&usual, vital, reading.epoch_ms(), value));
        if let Some(bound) = range.thresholds.broken_by(value).or(unusual) {
            broken = broken.or(Some((measured, bound)));
        } else if range.clear.broken_by(value).is_some() {
            between = between.or(Some(measured));
        } else {
            clear = clear.or(Some(measured));
        }
    }
    if let Some((measured, bound)) = broken {
        let may_open = effective.holds(reading.timestamp());
        return Verdict::Breach { measured, bound, may_open };
    }
    match (between, clear) {
        (Some(measured), _) => Verdict::Between(measured),
        (None, Some(measured)) => Verdict::Clear(measured),
        (None, None) => Verdict::Absent,
    }
}
