//! Limits how often a thing may happen within any period of a given length.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Number of keys from which on keys without effect are removed.
const KEYS_MAX: usize = 10_000;

/// At most `times` events within any period `within`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Number of events that are allowed.
    pub times: usize,
    /// Length of the period.
    pub within: Duration,
}

impl Limit {
    /// A limit within any minute.
    pub const fn a_minute(times: usize) -> Self {
        Self { times, within: Duration::from_secs(60) }
    }

    /// A limit within any 24 hours. The platform counts by the calendar; a test cannot wait for
    /// that.
    pub const fn a_day(times: usize) -> Self {
        Self { times, within: Duration::from_secs(86_400) }
    }
}

/// The events counted towards limits. Times are the fake's, since its start.
#[derive(Debug, Default)]
pub(super) struct Limits {
    taken: HashMap<(&'static str, String), Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    times: VecDeque<Duration>,
    within: Duration,
}

impl Taken {
    fn forget(&mut self, now: Duration) {
        while self.times.front().is_some_and(|time| *time + self.within <= now) {
            self.times.pop_front();
        }
    }
}

impl Limits {
    /// Counts an event `what` of `whom` if its limit allows it, and returns whether it does. A
    /// rejected event does not count.
    pub(super) fn take(
        &mut self,
        what: &'static str,
        whom: &str,
        limit: Option<Limit>,
        now: Duration,
    ) -> bool {
        let Some(Limit { times, within }) = limit else { return true };
        if self.taken.len() >= KEYS_MAX {
            self.taken.retain(|_, taken| {
                taken.forget(now);
                !taken.times.is_empty()
            });
        }
        let taken = self.taken.entry((what, whom.to_owned())).or_default();
        taken.within = within;
        taken.forget(now);
        let allowed = taken.times.len() < times;
        if allowed {
            taken.times.push_back(now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn so_many_are_allowed_within_any_stretch_and_each_key_has_its_own() {
        let mut limits = Limits::default();
        let limit = Some(Limit::a_minute(2));
        for (second, whom, allowed) in [
            (0, "a", true),
            (50, "a", true),
            (59, "a", false),
            (59, "b", true),
            (60, "a", true),
            (61, "a", false),
            (110, "a", true),
        ] {
            assert_eq!(limits.take("x", whom, limit, seconds(second)), allowed, "{second} {whom}");
        }
        assert!(limits.take("y", "a", limit, seconds(110)), "another kind");
        assert!(limits.take("x", "a", None, seconds(110)), "no limit");
    }

    #[test]
    fn keys_that_limit_nothing_any_more_are_forgotten() {
        let mut limits = Limits::default();
        for number in 0..3 * KEYS_MAX as u64 {
            let limit = Some(Limit::a_minute(1));
            assert!(limits.take("x", &number.to_string(), limit, seconds(number)));
        }
        assert!(limits.taken.len() <= KEYS_MAX, "{}", limits.taken.len());
    }
}
