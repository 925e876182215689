//! Evaluates a reading by a rule, with the rule's state on the device between readings.
//!
//! Pure. The engine keeps the state beside the episode.

use ljwx_reading::Reading;
use serde::{Deserialize, Serialize};

use crate::engine::episode::Episode;
use crate::engine::episode::condition_state::{Held, Sight};
use crate::engine::episode::value_window::Recent;
use crate::rules::rule::{Effective, Rule, Watch};
use crate::rules::verdict::{Measured, Range, Verdict};
use crate::rules::vital::Signs;

/// The state of a rule on a device, beside the episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Memory {
    /// Since when the conditions have held.
    Conditions(Held),
    /// The latest values, from which the usual range follows.
    Recent(Recent),
}

impl Memory {
    /// Records that a transition was made.
    pub fn settle(&mut self) {
        if let Self::Conditions(held) = self {
            held.settle();
        }
    }

    /// Whether dropping the state loses nothing.
    pub fn is_blank(&self) -> bool {
        match self {
            Self::Conditions(held) => held.is_blank(),
            Self::Recent(_) => false,
        }
    }
}

/// Returns the verdict of `rule` on the `fresh` vitals of a reading, and the episode from which it
/// continues.
///
/// For conditions this is the episode before the reading's second, while that second has
/// made no transition.
pub fn see(
    rule: &Rule,
    now: Episode,
    memory: Option<Memory>,
    fresh: Signs,
    reading: &Reading,
) -> (Episode, Verdict, Option<Memory>) {
    match &rule.watch {
        Watch::Range(range) => {
            let mut recent = match memory {
                Some(Memory::Recent(recent)) => recent,
                _ => Recent::default(),
            };
            let verdict = in_range(range, &rule.effective, &mut recent, reading);
            (now, verdict, range.deviation.map(|_| Memory::Recent(recent)))
        }
        // No reading carries missing data.
        Watch::Absence(_) => (now, Verdict::Absent, memory),
        Watch::Conditions(composite) => {
            let mut held = match memory {
                Some(Memory::Conditions(held)) => held,
                _ => Held::default(),
            };
            let before = held.begin(reading.epoch_ms(), &now);
            let sight = held.look(composite, fresh, reading);
            let verdict = in_conditions(sight, &rule.effective, reading);
            (before, verdict, Some(Memory::Conditions(held)))
        }
    }
}

/// Whether the `fresh` vitals of a reading cannot change a rule without state on the device. Fast
/// path: most readings change the state of no rule.
pub fn leaves_quiet(rule: &Rule, fresh: Signs, reading: &Reading) -> bool {
    match &rule.watch {
        Watch::Range(Range { deviation: Some(_), .. }) => false,
        Watch::Range(range) => {
            let mut values = range.sign.values(reading.vitals());
            values.all(|(_, value)| range.thresholds.broken_by(value).is_none())
        }
        Watch::Conditions(composite) => !composite.any_true(fresh, reading),
        Watch::Absence(_) => true,
    }
}

fn in_range(
    range: &Range,
    effective: &Effective,
    recent: &mut Recent,
    reading: &Reading,
) -> Verdict {
    let (mut broken, mut between, mut clear) = (None, None, None);
    for (sign, value) in range.sign.values(reading.vitals()) {
        let measured = Measured { sign, value };
        // Every value enters the mean, even if the reading is already a breach.
        let unusual = range
            .deviation
            .and_then(|usual| recent.broken_by(&usual, sign, reading.epoch_ms(), value));
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

fn in_conditions(sight: Option<Sight>, effective: &Effective, reading: &Reading) -> Verdict {
    match sight {
        None => Verdict::Absent,
        Some(Sight { measured, bound: None }) => Verdict::Clear(measured),
        Some(Sight { measured, bound: Some(bound) }) => {
            let may_open = effective.holds(reading.timestamp());
            Verdict::Breach { measured, bound, may_open }
        }
    }
}
