//! Limits how often operators hear of the same thing.
//!
//! Pure: time comes as an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Things that are remembered. Further ones are not admitted.
const KEYS_MAX: usize = 1_000;

/// Admits one event of a key in an interval. Holds the end of each interval.
#[derive(Debug, Default)]
pub struct RepeatLimit(HashMap<String, Instant>);

impl RepeatLimit {
    /// Whether an event of this key may be sent now, and no other within `interval`. An admitted
    /// event counts as sent.
    pub fn admit(&mut self, key: String, interval: Duration, now: Instant) -> bool {
        self.0.retain(|_, until| now < *until);
        let is_admitted = self.0.len() < KEYS_MAX && !self.0.contains_key(&key);
        if is_admitted {
            self.0.insert(key, now + interval);
        }
        is_admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn operators_hear_of_the_first_of_a_kind_and_again_after_the_interval() {
        let mut limit = RepeatLimit::default();
        let begun = Instant::now();
        for (key, after, admitted) in [
            ("a", Duration::ZERO, true),
            ("a", DAY - Duration::from_secs(1), false),
            ("b", Duration::ZERO, true),
            ("a", DAY, true),
            ("a", DAY * 2 - Duration::from_secs(1), false),
        ] {
            assert_eq!(limit.admit(key.into(), DAY, begun + after), admitted, "{key} {after:?}");
        }
    }

    #[test]
    fn more_kinds_than_are_remembered_wait_until_the_first_are_forgotten() {
        let mut limit = RepeatLimit::default();
        let begun = Instant::now();
        let mut admit = |key: usize, now| limit.admit(key.to_string(), DAY, now);
        assert!((0..KEYS_MAX).all(|key| admit(key, begun)));
        assert!(!admit(KEYS_MAX, begun));
        assert!(admit(KEYS_MAX, begun + DAY));
        assert_eq!(limit.0.len(), 1);
    }
}
