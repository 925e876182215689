//! Bounds a rate and its bursts. Pure: the time is an argument.

use std::time::{Duration, Instant};

/// Tokens that come back at a steady rate.
#[derive(Debug)]
pub struct TokenBucket {
    per_second: f64,
    burst: f64,
    /// The tokens left at `at`. Below 0: a debt.
    left: f64,
    at: Instant,
}

impl TokenBucket {
    /// Creates a full bucket of `burst` tokens, into which `per_second` tokens come back.
    pub fn new(per_second: u64, burst: u64, now: Instant) -> Self {
        Self { per_second: per_second as f64, burst: burst as f64, left: burst as f64, at: now }
    }

    /// Takes `tokens` if any are left. The error is the wait until any are left.
    ///
    /// A taker may leave a debt. Otherwise small takers would always be first at a nearly empty
    /// bucket, and a taker of more than the burst would never get its tokens.
    pub fn take(&mut self, tokens: u64, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.burst);
        self.at = self.at.max(now);
        if self.left <= 0.0 {
            let wait = Duration::try_from_secs_f64(-self.left / self.per_second);
            return Err(wait.unwrap_or(Duration::MAX));
        }
        self.left -= tokens as f64;
        Ok(())
    }

    /// Gives back tokens that were taken and not used.
    pub fn give_back(&mut self, tokens: u64) {
        self.left = (self.left + tokens as f64).min(self.burst);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_is_taken_at_once_and_comes_back_at_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10, 100, start);
        // Milliseconds from the start, tokens, and the wait in milliseconds if there are none.
        for (at, tokens, wait) in [
            (0, 60, None),
            (0, 60, None),
            (0, 1, Some(2_000)),
            (1_500, 1, Some(500)),
            (2_100, 500, None),
            (2_100, 1, Some(49_900)),
            (52_500, 1, None),
            (1_000_000, 100, None),
            (1_000_000, 1, Some(0)),
            // A clock that stands still, or an earlier time, brings nothing.
            (900_000, 1, Some(0)),
        ] {
            let taken = bucket.take(tokens, start + Duration::from_millis(at));
            let waited = taken.err().map(|wait| (wait.as_secs_f64() * 1e3).round() as u64);
            assert_eq!(waited, wait, "{tokens} at {at} ms");
        }
    }

    #[test]
    fn what_is_given_back_is_there_for_the_next_one() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(1, 100, now);
        assert_eq!(bucket.take(150, now), Ok(()));
        bucket.give_back(150);
        assert_eq!(bucket.take(100, now), Ok(()));
        assert!(bucket.take(1, now).is_err(), "never more than the burst");
    }

    proptest! {
        #[test]
        fn no_schedule_takes_more_than_burst_and_rate_and_one_debt(
            per_second in 1_u64..1_000,
            burst in 1_u64..10_000,
            takers in prop::collection::vec((0_u64..2_000, 1_u64..5_000), 1..200),
        ) {
            let start = Instant::now();
            let mut bucket = TokenBucket::new(per_second, burst, start);
            let (mut passed, mut taken, mut largest) = (0, 0, 0);
            for (pause, tokens) in takers {
                passed += pause;
                if bucket.take(tokens, start + Duration::from_millis(passed)).is_ok() {
                    taken += tokens;
                    largest = largest.max(tokens);
                }
            }
            let came_back = per_second as f64 * passed as f64 / 1e3;
            prop_assert!(taken as f64 <= burst as f64 + came_back + largest as f64 + 1e-3);
        }

        #[test]
        fn who_waits_as_long_as_told_is_next_whatever_is_taken(
            per_second in 1_u64..1_000,
            burst in 1_u64..10_000,
            first in 1_u64..100_000,
            tokens in 1_u64..100_000,
        ) {
            let now = Instant::now();
            let mut bucket = TokenBucket::new(per_second, burst, now);
            prop_assert_eq!(bucket.take(first, now), Ok(()));
            if let Err(wait) = bucket.take(tokens, now) {
                let later = now + wait + Duration::from_millis(1);
                prop_assert_eq!(bucket.take(tokens, later), Ok(()));
            }
        }
    }
}
