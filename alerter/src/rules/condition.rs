//! The conditions of a rule, each of which may have to hold for a while.
//!
//! Pure. What is remembered of a device between readings belongs to
//! [`crate::engine::episode::condition_state`].

use ljwx_reading::{Reading, Vitals};

use crate::rules::verdict::Measured;
use crate::rules::vital::{Sign, Signs};

/// How a value is compared with a condition's threshold.
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
    /// Reads the sign that stands for it.
    pub fn from_text(text: &str) -> Option<Self> {
        Some(match text {
            ">" => Self::Above,
            "<" => Self::Below,
            ">=" => Self::AtLeast,
            "<=" => Self::AtMost,
            "==" | "=" => Self::Equal,
            "!=" => Self::NotEqual,
            _ => return None,
        })
    }

    /// The sign that stands for it.
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
            // Values and thresholds are decimals of few digits, read the same way.
            Self::Equal => value == threshold,
            Self::NotEqual => value != threshold,
        }
    }
}

/// One condition of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// What it looks at.
    pub sign: Sign,
    /// How.
    pub operator: Operator,
    /// With what.
    pub threshold: f64,
    /// Event time for which it has to have been true on every reading; 0: at once.
    pub duration_ms: i64,
}

impl Condition {
    /// The value that makes it true; of two blood pressures either may.
    pub fn true_value(&self, vitals: &Vitals) -> Option<Measured> {
        let mut values = self.sign.values(vitals);
        values
            .find(|(_, value)| self.operator.holds(*value, self.threshold))
            .map(|(sign, value)| Measured { sign, value })
    }
}

/// Conditions and how they are joined.
#[derive(Debug, Clone, PartialEq)]
pub struct Composite {
    /// At least one.
    pub conditions: Vec<Condition>,
    /// Whether all have to hold, or one.
    pub all: bool,
}

impl Composite {
    /// The signs that its conditions look at.
    pub fn signs(&self) -> impl Iterator<Item = Sign> {
        self.conditions.iter().map(|condition| condition.sign)
    }

    /// Whether the `fresh` signs of a reading make any condition true.
    pub fn any_true(&self, fresh: Signs, reading: &Reading) -> bool {
        let mut fresh = self.conditions.iter().filter(|condition| fresh.contains(condition.sign));
        fresh.any(|condition| condition.true_value(reading.vitals()).is_some())
    }
}
