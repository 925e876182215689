//! Rules of several conditions, each of which may have to hold for a while.
//!
//! Pure: event time comes as an argument. What is remembered of a device between readings is
//! [`Held`]; it makes readings of one second count as one, in whatever order they come.

use ljwx_reading::{Reading, Vitals};
use serde::{Deserialize, Serialize};

use crate::engine::episode::Episode;
use crate::rules::rule::Measured;
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
    fn true_value(&self, vitals: &Vitals) -> Option<Measured> {
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

/// What a composite rule sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sight {
    /// The value that decided, or the first that could have.
    pub measured: Measured,
    /// The threshold of its condition, where the rule as a whole is breached.
    pub bound: Option<f64>,
}

/// Where one condition stands on one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Since {
    /// First reading since which it has been true on every one.
    now: Option<i64>,
    /// The same before the second that was looked at last.
    before: Option<i64>,
}

/// What is remembered of a rule's conditions on one device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The second that was looked at last, in milliseconds.
    at: i64,
    since: Vec<Since>,
    /// The episode before that second, while nobody has heard of a change in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Episode>,
}

impl Held {
    /// The episode that a reading at `at` goes on from, where the rule stands at `now`. Seconds come
    /// in their order: [`crate::rules::rule::Rule::is_past`] keeps out what is older.
    pub fn begin(&mut self, at: i64, now: &Episode) -> Episode {
        if at == self.at {
            // After a transition the rest of the second goes on from there, and still counts once.
            return self.before.get_or_insert_with(|| now.clone()).clone();
        }
        self.at = at;
        for since in &mut self.since {
            // Not true in this second until a reading says so.
            *since = Since { now: None, before: since.now };
        }
        self.before = Some(now.clone());
        now.clone()
    }

    /// Notes that a transition was made in this second: it stands, whatever comes of the rest.
    pub fn settle(&mut self) {
        self.before = None;
    }

    /// Whether nothing would be lost by forgetting it.
    pub fn is_blank(&self) -> bool {
        self.since.iter().all(|since| *since == Since::default())
            && self.before.as_ref().is_none_or(Episode::is_blank)
    }
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

    /// Looks at the `fresh` signs of a reading; a condition whose sign was reported in this second
    /// already keeps what it said. To be called after [`Held::begin`].
    pub fn look(&self, held: &mut Held, fresh: Signs, reading: &Reading) -> Option<Sight> {
        let (at, vitals) = (held.at, reading.vitals());
        held.since.resize(self.conditions.len(), Since::default());
        let mut decides = None;
        let mut count = 0;
        for (condition, since) in self.conditions.iter().zip(&mut held.since) {
            let true_value = fresh.contains(condition.sign).then(|| condition.true_value(vitals));
            if let Some(true_value) = true_value {
                since.now = true_value.map(|_| since.before.unwrap_or(at));
            }
            let holds = since.now.is_some_and(|since| at - since >= condition.duration_ms);
            count += usize::from(holds);
            if holds && let Some(Some(measured)) = true_value {
                decides = decides.or(Some(Sight { measured, bound: Some(condition.threshold) }));
            }
        }
        let carried = self.signs().find_map(|sign| sign.values(vitals).next());
        let measured = carried.map(|(sign, value)| Measured { sign, value });
        let breached = if self.all { count == self.conditions.len() } else { count > 0 };
        if !breached {
            return Some(Sight { measured: measured?, bound: None });
        }
        // What decides may have come with another reading of the second.
        let bound = Some(self.conditions.first()?.threshold);
        decides.or_else(|| Some(Sight { measured: measured?, bound }))
    }
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;
