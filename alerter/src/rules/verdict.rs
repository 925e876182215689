//! What a rule compares a value with, and what it sees in one reading.
//!
//! Pure. What follows from a series of verdicts belongs to [`crate::engine::episode`].

use crate::rules::vital::Sign;

/// The range a value is to lie in; an absent end does not bound.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bounds {
    /// Values below this lie outside.
    pub min: Option<f64>,
    /// Values above this lie outside.
    pub max: Option<f64>,
}

impl Bounds {
    /// The end that `value` lies beyond; a value equal to an end lies inside.
    pub fn broken_by(&self, value: f64) -> Option<f64> {
        self.min.filter(|min| value < *min).or(self.max.filter(|max| value > *max))
    }
}

/// What counts as unusual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deviation {
    /// Largest distance from the mean, in percent of it.
    pub percentage: f64,
    /// Time before a reading that its mean is taken over.
    pub window_ms: i64,
}

/// A sign and the range it is to lie in.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    /// What is watched.
    pub sign: Sign,
    /// Beyond these a value is a breach.
    pub thresholds: Bounds,
    /// Inside these an episode ends; at or inside the thresholds.
    pub clear: Bounds,
    /// Beyond this it is a breach as well.
    pub deviation: Option<Deviation>,
}

/// A value and the sign it belongs to: of blood pressure, the one of the two that decided.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Which quantity.
    pub sign: Sign,
    /// How much of it.
    pub value: f64,
}

/// What a rule sees in one reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// The reading does not carry the sign.
    Absent,
    /// Inside the clear bounds.
    Clear(Measured),
    /// No breach, yet not inside the clear bounds.
    Between(Measured),
    /// Beyond a threshold.
    Breach {
        /// The value that breaches.
        measured: Measured,
        /// The threshold it lies beyond.
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
