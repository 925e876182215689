//! What a rule sees in a reading, with what it remembers of the device between readings.
//!
//! Pure; the engine keeps the memory beside the episode.

use ljwx_reading::Reading;
use serde::{Deserialize, Serialize};

use crate::engine::episode::Episode;
use crate::engine::episode::condition_state::{Held, Sight};
use crate::engine::episode::value_window::Recent;
use crate::rules::rule::{Effective, Rule, Watch};
use crate::rules::verdict::{Measured, Range, Verdict};
use crate::rules::vital::Signs;

/// What a rule remembers of a device beside the course of its episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Memory {
    /// Since when its conditions have held.
    Conditions(Held),
    /// The values that say what is usual.
    Recent(Recent),
}

impl Memory {
    /// Notes that a transition was made.
    pub fn settle(&mut self) {
        if let Self::Conditions(held) = self {
            held.settle();
        }
    }

    /// Whether nothing would be lost by forgetting it.
    pub fn is_blank(&self) -> bool {
        match self {
            Self::Conditions(held) => held.is_blank(),
            Self::Recent(_) => false,
        }
    }
}

/// What `rule` sees in the `fresh` signs of a reading, and the episode that it goes on from: for
/// conditions, the one before the reading's second while nothing came of that.
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
        // No reading carries an absence.
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

/// Whether the `fresh` signs of a reading leave a rule as it is that remembers nothing of the device:
/// nearly every reading does that to nearly every rule, and this is all that it costs then.
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
        // Every value is noted, also of a reading that is a breach already.
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
