//! Limits how often an operator event is sent.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Events of one kind that are remembered, so as not to be repeated. Further ones are not sent.
const REPEATS_MAX: usize = 1_000;

/// Admits one event of a kind and key in an interval. Holds the end of each interval.
#[derive(Debug, Default)]
pub(super) struct RepeatLimit(HashMap<(&'static str, String), Instant>);

impl RepeatLimit {
    /// Whether an event of this kind and key may be sent now, and no other within `interval`. An
    /// admitted event counts as sent.
    pub fn admit(&mut self, key: (&'static str, String), interval: Duration, now: Instant) -> bool {
        self.0.retain(|_, until| now < *until);
        let remembered = self.0.keys().filter(|(kind, _)| *kind == key.0).count();
        let is_admitted = remembered < REPEATS_MAX && !self.0.contains_key(&key);
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
    fn operators_get_the_first_event_of_a_key_and_one_again_after_the_interval() {
        let mut limit = RepeatLimit::default();
        let begun = Instant::now();
        for (key, after, admitted) in [
            ("a", Duration::ZERO, true),
            ("a", DAY - Duration::from_secs(1), false),
            ("b", Duration::ZERO, true),
            ("a", DAY, true),
            ("a", DAY * 2 - Duration::from_secs(1), false),
        ] {
            let is_admitted = limit.admit(("event", key.into()), DAY, begun + after);
            assert_eq!(is_admitted, admitted, "{key} {after:?}");
        }
    }

    #[test]
    fn more_events_of_a_kind_than_are_remembered_wait_and_no_other_kind_waits_for_them() {
        let mut limit = RepeatLimit::default();
        let begun = Instant::now();
        let mut admit = |kind, key: usize, now| limit.admit((kind, key.to_string()), DAY, now);
        assert!((0..REPEATS_MAX).all(|key| admit("many", key, begun)));
        assert!(!admit("many", REPEATS_MAX, begun) && admit("other", 0, begun));
        assert!(admit("many", REPEATS_MAX, begun + DAY));
        assert_eq!(limit.0.len(), 1);
    }
}
