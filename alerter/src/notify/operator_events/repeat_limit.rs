//! Limits how often operators hear of the same thing.
//!
//! Pure: time comes as an argument.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Things that are remembered. Further ones are not admitted.
const KEYS_MAX: usize = 1_000;

/// Admits one event of a key in an interval.
#[derive(Debug)]
pub struct RepeatLimit<K> {
    interval: Duration,
    sent: HashMap<K, Instant>,
}

impl<K: Eq + Hash> RepeatLimit<K> {
    /// Admits an event of a key once in `interval`.
    pub fn new(interval: Duration) -> Self {
        Self { interval, sent: HashMap::new() }
    }

    /// Whether an event of this key may be sent now. An admitted event counts as sent.
    pub fn admit(&mut self, key: K, now: Instant) -> bool {
        self.sent.retain(|_, at| now.saturating_duration_since(*at) < self.interval);
        let is_admitted = self.sent.len() < KEYS_MAX && !self.sent.contains_key(&key);
        if is_admitted {
            self.sent.insert(key, now);
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
        let mut limit = RepeatLimit::new(DAY);
        let begun = Instant::now();
        for (key, after, admitted) in [
            ("a", Duration::ZERO, true),
            ("a", DAY - Duration::from_secs(1), false),
            ("b", Duration::ZERO, true),
            ("a", DAY, true),
            ("a", DAY * 2 - Duration::from_secs(1), false),
        ] {
            assert_eq!(limit.admit(key, begun + after), admitted, "{key} {after:?}");
        }
    }

    #[test]
    fn more_kinds_than_are_remembered_wait_until_the_first_are_forgotten() {
        let mut limit = RepeatLimit::new(DAY);
        let begun = Instant::now();
        assert!((0..KEYS_MAX).all(|key| limit.admit(key, begun)));
        assert!(!limit.admit(KEYS_MAX, begun));
        assert!(limit.admit(KEYS_MAX, begun + DAY));
        assert_eq!(limit.sent.len(), 1);
    }
}
