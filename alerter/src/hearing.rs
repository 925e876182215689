//! When a partition was heard: the clock by which a device's absence is counted.
//!
//! Pure. The clock is the greatest Kafka record time of the partition, so that a replay and a
//! backlog count as the live run did. A stretch in which nobody at all was heard says nothing about
//! any one device (the gateway may have been away): after it absence is counted anew.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A device that had been silent for this long when a rule came into force is out of service, and
/// none of its business: 7 days, in milliseconds.
pub const OUT_OF_SERVICE_MS: i64 = 7 * 86_400_000;

/// a rule on absence: its number, its version, and how long an absence it allows in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbsenceRule {
    /// Number of the rule.
    pub id: i64,
    /// Its version: another one starts counting anew.
    pub version: i64,
    /// Longest absence.
    pub window_ms: i64,
}

/// Since when a rule counts a partition's absence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Armed {
    version: i64,
    window_ms: i64,
    /// When it came into force.
    from: i64,
    /// The end of the last stretch in which nobody was heard.
    since: i64,
}

/// What is known of a partition's hearing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hearing {
    clock_ms: i64,
    rules: BTreeMap<i64, Armed>,
}

impl Hearing {
    /// The greatest record time so far, in milliseconds; 0: none yet.
    pub fn clock_ms(&self) -> i64 {
        self.clock_ms
    }

    /// Whether any rule counts absence here.
    pub fn counts(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Notes a record of time `at`.
    pub fn hears(&mut self, at: i64) {
        let gap = at - self.clock_ms;
        if gap <= 0 {
            return;
        }
        self.clock_ms = at;
        for armed in self.rules.values_mut() {
            // Half of it: a device heard just before must have its chance to be heard after.
            if gap > armed.window_ms / 2 {
                armed.since = at;
            }
        }
    }

    /// Takes over the rules in force; one that is new, or has another version, counts from now.
    /// Says whether anything changed.
    pub fn arm(&mut self, rules: &[AbsenceRule]) -> bool {
        let mut armed = BTreeMap::new();
        for rule in rules {
            let known = self.rules.get(&rule.id).filter(|known| known.version == rule.version);
            let fresh = Armed {
                version: rule.version,
                window_ms: rule.window_ms,
                from: self.clock_ms,
                since: self.clock_ms,
            };
            armed.insert(rule.id, known.copied().unwrap_or(fresh));
        }
        let changed = armed != self.rules;
        self.rules = armed;
        changed
    }

    /// When a device last heard at `heard_at` will have been silent for as long as the rule allows;
    /// `None` where the rule does not count this device.
    pub fn due(&self, rule_id: i64, heard_at: i64) -> Option<i64> {
        let armed = self.rules.get(&rule_id)?;
        let in_service = armed.from - heard_at <= OUT_OF_SERVICE_MS;
        in_service.then(|| heard_at.max(armed.since) + armed.window_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: AbsenceRule = AbsenceRule { id: 1, version: 1, window_ms: 100_000 };

    fn hearing(records: &[i64]) -> Hearing {
        let mut hearing = Hearing::default();
        hearing.hears(1_000_000);
        hearing.arm(&[RULE]);
        records.iter().for_each(|second| hearing.hears(1_000_000 + second * 1000));
        hearing
    }

    #[test]
    fn absence_counts_from_the_last_record_of_the_device_while_others_are_heard() {
        let hearing = hearing(&[10, 40, 80, 120]);
        assert_eq!(hearing.due(1, 1_010_000), Some(1_110_000));
        assert_eq!(hearing.due(2, 1_010_000), None, "another rule");
    }

    #[test]
    fn a_stretch_in_which_nobody_was_heard_counts_for_nobody() {
        let deaf = hearing(&[10, 600]);
        assert_eq!(deaf.due(1, 1_010_000), Some(1_700_000), "anew from the first record after it");
        let half = hearing(&[10, 60]);
        assert_eq!(half.due(1, 1_010_000), Some(1_110_000), "half the window is no such stretch");
    }

    #[test]
    fn a_new_version_counts_from_when_it_came_and_not_for_devices_out_of_service() {
        let mut hearing = hearing(&[10, 40, 80]);
        assert!(!hearing.arm(&[RULE]), "the same rule changes nothing");
        assert!(hearing.arm(&[AbsenceRule { version: 2, ..RULE }]));
        assert_eq!(hearing.due(1, 1_010_000), Some(1_180_000));
        assert_eq!(hearing.due(1, 1_080_000 - OUT_OF_SERVICE_MS - 1), None);
        assert!(hearing.arm(&[]) && !hearing.counts());
    }

    #[test]
    fn a_record_from_before_moves_nothing() {
        let mut hearing = hearing(&[10, 40]);
        let before = hearing.clone();
        hearing.hears(1_020_000);
        assert_eq!(hearing, before);
    }
}
