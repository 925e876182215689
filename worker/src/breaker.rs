//! The breaker of the dead-letter topic: a few refused readings are set aside, a flood of them means
//! that something else is wrong, and a backlog is better than a topic emptied into dead letters.
//!
//! Pure: time comes as an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// When the breaker opens.
#[derive(Debug, Clone)]
pub struct BreakerLimits {
    /// Largest share of dead letters among the records of the window.
    pub ratio_max: f64,
    /// Most dead letters in a row.
    pub consecutive_max: usize,
}

/// The window that the ratio is taken over.
const WINDOW: Duration = Duration::from_secs(600);

/// Records in the window below which no ratio is judged: one in ten is no flood.
const RECORDS_MIN: usize = 1000;

/// Counts dead letters among records.
#[derive(Debug)]
pub struct Breaker {
    limits: BreakerLimits,
    window: VecDeque<(Instant, usize, usize)>,
    consecutive: usize,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(limits: BreakerLimits) -> Self {
        Self { limits, window: VecDeque::new(), consecutive: 0 }
    }

    /// Whether a batch of `records` may have `letters` dead letters, `leading` of them before its
    /// first good record. Changes nothing.
    pub fn allows(&self, now: Instant, records: usize, letters: usize, leading: usize) -> bool {
        if letters == 0 {
            return true;
        }
        if self.consecutive + leading > self.limits.consecutive_max {
            return false;
        }
        let recent = self.window.iter().filter(|(at, ..)| now.duration_since(*at) <= WINDOW);
        let (all, dead) = recent.fold((records, letters), |(all, dead), (_, records, letters)| {
            (all + records, dead + letters)
        });
        all < RECORDS_MIN || dead as f64 <= self.limits.ratio_max * all as f64
    }

    /// Notes a batch that was written; `trailing` of its dead letters came after its last good
    /// record, all of them where it had none.
    pub fn note(&mut self, now: Instant, records: usize, letters: usize, trailing: usize) {
        self.window.push_back((now, records, letters));
        while self.window.front().is_some_and(|(at, ..)| now.duration_since(*at) > WINDOW) {
            self.window.pop_front();
        }
        self.consecutive = if letters == records { self.consecutive + letters } else { trailing };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(BreakerLimits { ratio_max: 0.05, consecutive_max: 10 })
    }

    #[test]
    fn a_few_are_let_through_and_a_flood_is_not() {
        let now = Instant::now();
        let mut breaker = breaker();
        assert!(breaker.allows(now, 10, 5, 0), "too few records to judge a ratio");
        breaker.note(now, 2000, 0, 0);
        assert!(breaker.allows(now, 500, 100, 3));
        assert!(!breaker.allows(now, 500, 200, 3));
        let later = now + WINDOW + Duration::from_secs(1);
        assert!(!breaker.allows(later, 1000, 51, 0), "what was good long ago excuses nothing");
    }

    #[test]
    fn letters_in_a_row_are_counted_over_batches() {
        let now = Instant::now();
        let mut breaker = breaker();
        breaker.note(now, 6, 6, 6);
        assert!(breaker.allows(now, 4, 4, 4));
        assert!(!breaker.allows(now, 5, 5, 5));
        breaker.note(now, 5, 2, 1);
        assert!(breaker.allows(now, 9, 9, 9));
        assert!(breaker.allows(now, 5, 0, 0));
    }
}
