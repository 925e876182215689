//! The conditions of a COMPOSITE rule. A condition may have a duration for which it must hold.
//!
//! Pure. The state of the conditions on a device belongs to
//! [`crate::engine::episode::condition_state`].

use ljwx_reading::{Reading, Vitals};

use crate::rules::verdict::Measurement;
use crate::rules::vital::{Vital, VitalSet};

/// The comparison of a value with a condition's threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `>`
    Above,
    /// `<`
    Below,
    /// `>=`
    AtLeast,
    /// `<=`
    AtMost,
    /// `==` or `=`
    Equal,
    /// `!=`
    NotEqual,
}

impl Operator {
    const ALL: [Self; 6] =
        [Self::Above, Self::Below, Self::AtLeast, Self::AtMost, Self::Equal, Self::NotEqual];

    /// Parses the symbol of an operator.
    pub fn from_text(text: &str) -> Option<Self> {
        let symbol = if text == "=" { "==" } else { text };
        Self::ALL.into_iter().find(|operator| operator.as_str() == symbol)
    }

    /// Returns the symbol of the operator.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Above => ">",
            Self::Below => "<",
            Self::AtLeast => ">=",
            Self::AtMost => "<=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
        }
    }

    fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::Above => value > threshold,
            Self::Below => value < threshold,
            Self::AtLeast => value >= threshold,
            Self::AtMost => value <= threshold,
            // Exact comparison is safe: both sides are decimals of few digits, parsed in the same
            // way.
            Self::Equal => value == threshold,
            Self::NotEqual => value != threshold,
        }
    }
}

/// One condition of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The vital to compare.
    pub vital: Vital,
    /// The comparison.
    pub operator: Operator,
    /// The threshold to compare with.
    pub threshold: f64,
    /// Event time for which the condition must have been true on every reading, in milliseconds; 0:
    /// at once.
    pub duration_ms: i64,
}

impl Condition {
    /// Returns the value that makes the condition true. For blood pressure either value may.
    pub fn true_value(&self, vitals: &Vitals) -> Option<Measurement> {
        let mut values = self.vital.values(vitals);
        values
            .find(|(_, value)| self.operator.holds(*value, self.threshold))
            .map(|(vital, value)| Measurement { vital, value })
    }
}

/// Conditions, joined by AND or OR.
#[derive(Debug, Clone, PartialEq)]
pub struct Composite {
    /// The conditions: at least one.
    pub conditions: Vec<Condition>,
    /// Whether all conditions must hold, or one.
    pub all: bool,
}

impl Composite {
    /// Returns the vitals that the conditions compare.
    pub fn watched_vitals(&self) -> impl Iterator<Item = Vital> {
        self.conditions.iter().map(|condition| condition.vital)
    }

    /// Whether the `fresh` vitals of a reading make any condition true.
    pub fn any_true(&self, fresh: VitalSet, reading: &Reading) -> bool {
        let mut fresh = self.conditions.iter().filter(|condition| fresh.contains(condition.vital));
        fresh.any(|condition| condition.true_value(reading.vitals()).is_some())
    }
}
