//! The bounds of a rule, and the verdict of a rule on one reading.
//!
//! Pure. The consequences of a series of verdicts belong to [`crate::engine::episode`].

use serde::{Deserialize, Serialize};

use crate::rules::vital::Vital;

/// The range in which a value should lie. A missing end does not bound the range.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bounds {
    /// Values below this lie outside.
    pub min: Option<f64>,
    /// Values above this lie outside.
    pub max: Option<f64>,
}

impl Bounds {
    /// Returns the end that `value` lies beyond. A value equal to an end lies inside.
    pub fn broken_by(&self, value: f64) -> Option<f64> {
        self.min.filter(|min| value < *min).or(self.max.filter(|max| value > *max))
    }
}

/// Values from which on a mean is compared.
pub const MEAN_VALUES_MIN: usize = 10;

/// The deviation from the mean that is a breach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deviation {
    /// Largest allowed distance from the mean, in percent of the mean.
    pub percentage: f64,
    /// Time before a reading over which the mean is taken, in milliseconds.
    pub window_ms: i64,
}

/// A vital and its allowed range.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    /// The vital.
    pub vital: Vital,
    /// A value beyond these bounds is a breach.
    pub thresholds: Bounds,
    /// A value inside these bounds is clear. These bounds lie at or inside the thresholds.
    pub clear: Bounds,
    /// A value beyond this deviation is a breach as well.
    pub deviation: Option<Deviation>,
}

/// A value and its vital. For blood pressure, the vital is the one of the two that decided.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The vital.
    pub vital: Vital,
    /// The value.
    pub value: f64,
}

/// The conclusion of a rule from one reading.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The reading does not carry the vital.
    Absent,
    /// Inside the clear bounds.
    Clear(Measurement),
    /// No breach, but not inside the clear bounds.
    Between(Measurement),
    /// The reading breaches the rule.
    Breach {
        /// The value that breaches the rule.
        measured: Measurement,
        /// The threshold that the value lies beyond.
        bound: f64,
        /// Whether the rule may open an episode at this time of day and week.
        may_open: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_breaks_nothing() {
        let bounds = Bounds { min: Some(60.0), max: Some(100.0) };
        for (value, broken) in
            [(59.9, Some(60.0)), (60.0, None), (100.0, None), (100.1, Some(100.0))]
        {
            assert_eq!(bounds.broken_by(value), broken, "{value}");
        }
        assert_eq!(Bounds::default().broken_by(1e9), None);
    }
}
