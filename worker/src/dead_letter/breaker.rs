//! The dead-letter breaker. A few data errors are dead-lettered. A flood of them points to another
//! error, so the breaker opens and batches wait: a backlog is better than a topic emptied into dead
//! letters.
//!
//! Pure: time comes as an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The limits above which the breaker opens.
#[derive(Debug, Clone)]
pub struct BreakerLimits {
    /// Largest share of dead letters among the records of the window.
    pub ratio_max: f64,
    /// Most consecutive dead letters.
    pub consecutive_max: usize,
}

/// Window of the ratio.
const WINDOW: Duration = Duration::from_secs(600);

/// Records in the window below which the ratio does not count: one dead letter in ten records is no
/// flood.
const RECORDS_MIN: usize = 1000;

/// Counts dead letters among records.
#[derive(Debug)]
pub struct DeadLetterBreaker {
    limits: BreakerLimits,
    window: VecDeque<(Instant, usize, usize)>,
    consecutive: usize,
}

impl DeadLetterBreaker {
    /// Creates a closed breaker.
    pub fn new(limits: BreakerLimits) -> Self {
        Self { limits, window: VecDeque::new(), consecutive: 0 }
    }

    /// Returns whether a batch may send its dead letters. `marks` holds for each record in order
    /// whether it is a dead letter. Changes nothing.
    pub fn allows(&self, now: Instant, marks: &[bool]) -> bool {
        let letters = letters(marks);
        if letters == 0 {
            return true;
        }
        if self.longest_run(marks) > self.limits.consecutive_max {
            return false;
        }
        let recent = self.window.iter().filter(|(at, ..)| now.duration_since(*at) <= WINDOW);
        let (all, dead) = recent
            .fold((marks.len(), letters), |(all, dead), (_, records, letters)| {
                (all + records, dead + letters)
            });
        all < RECORDS_MIN || dead as f64 <= self.limits.ratio_max * all as f64
    }

    /// Returns the most consecutive dead letters. A run at the start of the batch continues the run
    /// of earlier batches.
    fn longest_run(&self, marks: &[bool]) -> usize {
        let mut run = self.consecutive;
        let mut longest = 0;
        for letter in marks {
            run = if *letter { run + 1 } else { 0 };
            longest = longest.max(run);
        }
        longest
    }

    /// Counts a batch that was written.
    pub fn note(&mut self, now: Instant, marks: &[bool]) {
        self.window.push_back((now, marks.len(), letters(marks)));
        while self.window.front().is_some_and(|(at, ..)| now.duration_since(*at) > WINDOW) {
            self.window.pop_front();
        }
        let trailing = marks.iter().rev().take_while(|letter| **letter).count();
        self.consecutive =
            if trailing == marks.len() { self.consecutive + trailing } else { trailing };
    }
}

fn letters(marks: &[bool]) -> usize {
    marks.iter().filter(|letter| **letter).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> DeadLetterBreaker {
        DeadLetterBreaker::new(BreakerLimits { ratio_max: 0.05, consecutive_max: 10 })
    }

    /// Returns runs of good records and runs of dead letters, in turn.
    fn marks(stretches: &[usize]) -> Vec<bool> {
        let stretch = |(index, length): (usize, &usize)| vec![index % 2 == 1; *length];
        stretches.iter().enumerate().flat_map(stretch).collect()
    }

    /// Returns `records` records with `letters` dead letters in short runs.
    fn spread(records: usize, letters: usize) -> Vec<bool> {
        (0..records).map(|record| record % 2 == 1 && record / 2 < letters).collect()
    }

    #[test]
    fn a_few_are_let_through_and_a_flood_is_not() {
        let now = Instant::now();
        let mut breaker = breaker();
        assert!(breaker.allows(now, &spread(10, 5)), "too few records to judge a ratio");
        breaker.note(now, &spread(2000, 0));
        assert!(breaker.allows(now, &spread(500, 100)));
        assert!(!breaker.allows(now, &spread(500, 200)));
        let later = now + WINDOW + Duration::from_secs(1);
        assert!(
            !breaker.allows(later, &spread(1000, 51)),
            "what was good long ago excuses nothing"
        );
    }

    #[test]
    fn letters_in_a_row_are_counted_over_batches() {
        let now = Instant::now();
        let mut breaker = breaker();
        breaker.note(now, &marks(&[0, 6]));
        assert!(breaker.allows(now, &marks(&[0, 4])));
        assert!(!breaker.allows(now, &marks(&[0, 5])));
        breaker.note(now, &marks(&[2, 1, 1, 1]));
        assert!(breaker.allows(now, &marks(&[0, 9])));
        assert!(breaker.allows(now, &marks(&[5])));
    }

    #[test]
    fn what_opened_it_is_forgotten_after_the_window_or_behind_a_good_record() {
        let now = Instant::now();
        let mut breaker = breaker();
        breaker.note(now, &spread(2000, 100));
        assert!(!breaker.allows(now, &spread(2, 1)), "above the ratio");
        let later = now + WINDOW + Duration::from_secs(1);
        assert!(breaker.allows(later, &spread(2, 1)), "the window is over");
        breaker.note(later, &marks(&[0, 10]));
        assert!(!breaker.allows(later, &marks(&[0, 1])), "one too many in a row");
        breaker.note(later, &marks(&[1]));
        assert!(breaker.allows(later, &marks(&[0, 1])), "a good record ends the row");
    }

    #[test]
    fn a_run_counts_wherever_it_lies_in_a_batch() {
        let now = Instant::now();
        assert!(breaker().allows(now, &marks(&[1, 10, 1])));
        assert!(!breaker().allows(now, &marks(&[1, 11, 1])));
        assert!(!breaker().allows(now, &marks(&[1, 11])));
    }
}
