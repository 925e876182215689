//! Adapts three values to the times of the last batches: the size of a batch, the number in flight
//! and the wait of a lone reading. Pure: time comes as an argument.
//!
//! Under a flood the controller climbs: from time to time it tries a neighbouring setting, and
//! keeps the setting if the throughput is higher. Without a flood batches are taken by age and
//! their size does not matter. Then only the wait can improve: a fast database gets its batches
//! sooner.

use std::time::{Duration, Instant};

/// Sizes of a batch to choose from, in rows.
const ROWS: [usize; 7] = [50, 100, 200, 350, 500, 700, 1000];

/// The first setting: 1,000 rows, two batches in flight. A flood is mostly a backlog, and for a
/// backlog the largest batches are rarely far from the best.
const START: SizeAndDepth = SizeAndDepth { rows: 6, depth: 2 };

/// Fewest batches of one measurement.
const WINDOW_BATCHES: u32 = 4;

/// Shortest time of one measurement.
const WINDOW: Duration = Duration::from_millis(400);

/// Measurements of the active setting between two trials of a neighbour. Each trial that was no
/// better adds one.
const STAYS_MIN: u32 = 2;

/// Most measurements between two trials: a settled setting is rarely disturbed.
const STAYS_MAX: u32 = 20;

/// Relative change of the throughput that indicates a changed database. Frequent trials begin
/// again.
const CHANGED: f64 = 0.25;

/// Gain that a neighbour must show: measurements of one setting differ by about as much. Fewer
/// batches in flight must show the gain too: below a flood they are as good, until the load grows.
const BETTER: f64 = 1.05;

/// Least throughput of larger batches, as a share of the active setting's. They take fewer
/// statements, messages and Redis calls for the same readings.
const AS_GOOD: f64 = 0.98;

/// Gain that needs no second measurement.
const CLEARLY_BETTER: f64 = 1.15;

/// Weight of the latest measurement in the score of the active setting.
const LATEST_SCORE_WEIGHT: f64 = 0.5;

/// Time of a batch above which more throughput is not worth the wait.
const BATCH_TIME_MAX: Duration = Duration::from_secs(1);

/// The wait of a lone reading, in times of a small batch. Shorter waits would take more from the
/// programs beside the database than readings gain.
const IDLE_SHARE: u32 = 10;

/// The same wait if `FAST_ROWS` rows wait, so that each row costs little.
const FAST_SHARE: u32 = 4;

/// Shortest wait for more rows.
const LINGER_MIN: Duration = Duration::from_millis(5);

/// Weight of the latest batch in the mean time of small batches.
const LATEST_WEIGHT: f64 = 0.1;

/// The limits of the adaptive batch size.
#[derive(Debug, Clone)]
pub struct BatchSizeLimits {
    /// The rows of a batch, if they are fixed.
    pub rows_fixed: Option<usize>,
    /// Most batches in flight.
    pub in_flight_max: usize,
    /// Longest wait for more rows.
    pub age_max: Duration,
}

/// The measured time of one batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchTiming {
    pub records: usize,
    /// Time from the taking of the batch to its end, the Redis update included.
    pub took: Duration,
    /// Whether the batch was full, so that more rows may have been waiting.
    pub full: bool,
}

/// Index in [`ROWS`], and batches in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SizeAndDepth {
    rows: usize,
    depth: usize,
}

/// The controller of size, number in flight and wait.
#[derive(Debug)]
pub struct BatchSizer {
    limits: BatchSizeLimits,
    /// The active setting. `base_score` is its score so far.
    base: SizeAndDepth,
    base_score: f64,
    stays: u32,
    stays_wanted: u32,
    /// The neighbour under trial.
    trial: Option<SizeAndDepth>,
    /// A neighbour that was better once. One measurement may be luck, so it gets a second trial.
    promising: Option<SizeAndDepth>,
    next_neighbour: usize,
    window: Option<ThroughputWindow>,
    small_batch: Duration,
}

#[derive(Debug)]
struct ThroughputWindow {
    since: Instant,
    batches: u32,
    records: usize,
    took: Duration,
}

impl BatchSizer {
    /// Starts with [`START`], within `limits`.
    pub fn new(limits: BatchSizeLimits) -> Self {
        let base = SizeAndDepth { depth: START.depth.min(limits.in_flight_max), ..START };
        Self {
            small_batch: limits.age_max / IDLE_SHARE,
            limits,
            base,
            base_score: 0.0,
            stays: 0,
            stays_wanted: STAYS_MIN,
            trial: None,
            promising: None,
            next_neighbour: 0,
            window: None,
        }
    }

    fn current(&self) -> SizeAndDepth {
        self.trial.unwrap_or(self.base)
    }

    /// Returns the rows that make a batch due.
    pub fn rows(&self) -> usize {
        self.limits.rows_fixed.unwrap_or(ROWS[self.current().rows])
    }

    /// Returns the most batches in flight.
    pub fn in_flight(&self) -> usize {
        self.current().depth
    }

    /// Returns the age that makes a batch due.
    pub fn linger(&self) -> Duration {
        (self.small_batch * IDLE_SHARE)
            .clamp(LINGER_MIN.min(self.limits.age_max), self.limits.age_max)
    }

    /// Returns the age that makes a batch due if `FAST_ROWS` rows wait.
    pub fn fast_linger(&self) -> Duration {
        (self.small_batch * FAST_SHARE).min(self.linger())
    }

    /// Adds a batch that ended at `now` to the measurements.
    pub fn note(&mut self, now: Instant, sample: BatchTiming) {
        if !sample.full {
            // Without a flood there is nothing to climb, and a measurement under way would be
            // wrong.
            self.window = None;
            self.trial = None;
            self.promising = None;
            self.small_batch = self
                .small_batch
                .mul_f64(1.0 - LATEST_WEIGHT)
                .saturating_add(sample.took.mul_f64(LATEST_WEIGHT));
            return;
        }
        let Some(window) = &mut self.window else {
            // Batches in flight at a change of the setting still belong to the former setting.
            self.window =
                Some(ThroughputWindow { since: now, batches: 0, records: 0, took: Duration::ZERO });
            return;
        };
        window.batches += 1;
        window.records += sample.records;
        window.took += sample.took;
        let length = now.saturating_duration_since(window.since);
        if window.batches >= WINDOW_BATCHES && length >= WINDOW {
            let score = score(window, length);
            self.window = None;
            self.measured(score);
        }
    }

    fn measured(&mut self, score: f64) {
        match self.trial.take() {
            Some(trial) if self.is_kept(trial, score) => {
                // Try the same direction again, as long as the throughput rises.
                self.next_neighbour = self.next_neighbour.wrapping_sub(1);
                (self.base, self.base_score) = (trial, score);
                self.stays_wanted = STAYS_MIN;
                self.stays = STAYS_MIN;
            }
            Some(_) if self.promising.is_some() => {}
            Some(_) => self.stays_wanted = STAYS_MAX.min(self.stays_wanted + 1),
            None => {
                let moved = score - self.base_score;
                if moved.abs() > CHANGED * self.base_score {
                    self.stays_wanted = STAYS_MIN;
                    self.base_score = score;
                } else {
                    self.base_score += moved * LATEST_SCORE_WEIGHT;
                }
                self.stays += 1;
            }
        }
        if self.stays > 0 && self.promising.is_some() {
            self.trial = self.promising;
            self.stays = 0;
        } else if self.stays >= self.stays_wanted {
            self.trial = self.neighbour();
            self.stays = 0;
        }
    }

    /// Returns whether the trial becomes the active setting: it is clearly better, or better for
    /// the second time. Remembers a first success as promising.
    fn is_kept(&mut self, trial: SizeAndDepth, score: f64) -> bool {
        let good = score > self.base_score * self.least_gain(trial);
        let clearly = score > self.base_score * CLEARLY_BETTER;
        let again = self.promising.take() == Some(trial);
        if good && !clearly && !again {
            self.promising = Some(trial);
        }
        clearly || good && again
    }

    fn least_gain(&self, trial: SizeAndDepth) -> f64 {
        if trial.rows > self.base.rows { AS_GOOD } else { BETTER }
    }

    /// Returns the next of the up to four neighbours.
    fn neighbour(&mut self) -> Option<SizeAndDepth> {
        for _ in 0..4 {
            let SizeAndDepth { rows, depth } = self.base;
            let turn = self.next_neighbour % 4;
            self.next_neighbour = self.next_neighbour.wrapping_add(1);
            let found = match turn {
                0 if rows + 1 < ROWS.len() => SizeAndDepth { rows: rows + 1, depth },
                1 if depth < self.limits.in_flight_max => SizeAndDepth { rows, depth: depth + 1 },
                2 if rows > 0 => SizeAndDepth { rows: rows - 1, depth },
                3 if depth > 1 => SizeAndDepth { rows, depth: depth - 1 },
                _ => continue,
            };
            if self.limits.rows_fixed.is_none() || found.rows == rows {
                return Some(found);
            }
        }
        None
    }
}

/// Returns records per second, reduced if batches take longer than [`BATCH_TIME_MAX`].
fn score(window: &ThroughputWindow, length: Duration) -> f64 {
    let mean = window.took / window.batches.max(1);
    let patience = BATCH_TIME_MAX.as_secs_f64() / mean.max(BATCH_TIME_MAX).as_secs_f64();
    window.records as f64 / length.as_secs_f64() * patience
}

#[cfg(test)]
#[path = "size_tests.rs"]
mod tests;
