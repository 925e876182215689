//! How large batches are, how many are in flight and how long a lone reading waits for company, moved
//! by what the last batches took. Pure: time comes as an argument.
//!
//! Under a flood it climbs: now and then a neighbouring setting has its turn and is kept where it gets
//! more through. Otherwise batches are taken by age, their size does not matter, and all there is to
//! win is the wait: a quick database is asked sooner.

use std::time::{Duration, Instant};

/// Sizes of a batch to choose from, in rows.
const ROWS: [usize; 7] = [50, 100, 200, 350, 500, 700, 1000];

/// Where climbing starts: 1,000 rows, two batches in flight. A flood is mostly a backlog, and there the
/// largest batches are rarely far from the best.
const START: Setting = Setting { rows: 6, depth: 2 };

/// Batches of one measurement, at least.
const WINDOW_BATCHES: u32 = 4;

/// Length of one measurement, at least.
const WINDOW: Duration = Duration::from_millis(400);

/// Measurements of the setting in force between two of its neighbours; one more after each that was
/// no better.
const STAYS_MIN: u32 = 2;

/// The most of them: what has settled is hardly disturbed.
const STAYS_MAX: u32 = 20;

/// A change of the throughput by which another database is recognised, and looking begins anew.
const CHANGED: f64 = 0.25;

/// How much better a neighbour must be: measurements of one setting differ by about as much. Also
/// where it is fewer batches at a time: at a load that is no flood fewer do as well, until they do not.
const BETTER: f64 = 1.05;

/// How good larger batches must be: they take fewer statements, messages and calls of
/// Redis for the same readings.
const AS_GOOD: f64 = 0.98;

/// A gain that needs no second look.
const CLEARLY_BETTER: f64 = 1.15;

/// Weight of the latest measurement in what the setting in force gets through.
const LATEST_SCORE_WEIGHT: f64 = 0.5;

/// Time of a batch beyond which more throughput is not worth its wait.
const BATCH_TIME_MAX: Duration = Duration::from_secs(1);

/// A wait is as long as this many batches take: asked more often, a database that shares its machine
/// has less left for its neighbours than readings gain.
const IDLE_SHARE: u32 = 10;

/// The same where enough readings are there already, so that each costs little.
const COMPANY_SHARE: u32 = 4;

/// Shortest wait for company.
const LINGER_MIN: Duration = Duration::from_millis(5);

/// Weight of the latest batch in the mean time of small batches.
const LATEST_WEIGHT: f64 = 0.1;

/// Bounds of what is chosen.
#[derive(Debug, Clone)]
pub struct AdaptiveLimits {
    /// A size that is not to be moved.
    pub rows_fixed: Option<usize>,
    /// Most batches in flight.
    pub in_flight_max: usize,
    /// Longest wait for company.
    pub age_max: Duration,
}

/// What a batch took.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Its records.
    pub records: usize,
    /// From taking it to its commit.
    pub took: Duration,
    /// Whether it was full, so that more may have been waiting.
    pub full: bool,
}

/// Place in [`ROWS`], and batches in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting {
    rows: usize,
    depth: usize,
}

/// The controller.
#[derive(Debug)]
pub struct Adaptive {
    limits: AdaptiveLimits,
    /// In force, with what it got through when measured last.
    base: Setting,
    base_score: f64,
    stays: u32,
    stays_wanted: u32,
    /// The neighbour whose turn it is.
    trial: Option<Setting>,
    /// One that was good once: one measurement may be luck, so it has another turn.
    promising: Option<Setting>,
    next_neighbour: usize,
    window: Option<Window>,
    small_batch: Duration,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    batches: u32,
    records: usize,
    took: Duration,
}

impl Adaptive {
    /// Starts in the middle.
    pub fn new(limits: AdaptiveLimits) -> Self {
        let base = Setting { depth: START.depth.min(limits.in_flight_max), ..START };
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

    fn current(&self) -> Setting {
        self.trial.unwrap_or(self.base)
    }

    /// Rows that make a batch due.
    pub fn rows(&self) -> usize {
        self.limits.rows_fixed.unwrap_or(ROWS[self.current().rows])
    }

    /// Batches in flight.
    pub fn in_flight(&self) -> usize {
        self.current().depth
    }

    /// Age that makes a batch due.
    pub fn linger(&self) -> Duration {
        (self.small_batch * IDLE_SHARE)
            .clamp(LINGER_MIN.min(self.limits.age_max), self.limits.age_max)
    }

    /// Age that makes a batch due which has company already.
    pub fn company_linger(&self) -> Duration {
        (self.small_batch * COMPANY_SHARE).min(self.linger())
    }

    /// Notes a batch that was committed at `now`.
    pub fn note(&mut self, now: Instant, sample: Sample) {
        if !sample.full {
            // No flood, nothing to climb; a measurement under way would say nothing.
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
            // What is in flight when a setting changes still belongs to the one before.
            self.window = Some(Window { since: now, batches: 0, records: 0, took: Duration::ZERO });
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
                // The same way again, as long as it goes up.
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

    /// Whether a trial is good enough to stay, now or for the second time; notes it if the first.
    fn is_kept(&mut self, trial: Setting, score: f64) -> bool {
        let good = score > self.base_score * self.least_gain(trial);
        let clearly = score > self.base_score * CLEARLY_BETTER;
        let again = self.promising.take() == Some(trial);
        if good && !clearly && !again {
            self.promising = Some(trial);
        }
        clearly || good && again
    }

    fn least_gain(&self, trial: Setting) -> f64 {
        if trial.rows > self.base.rows { AS_GOOD } else { BETTER }
    }

    /// The next of the up to four neighbours.
    fn neighbour(&mut self) -> Option<Setting> {
        for _ in 0..4 {
            let Setting { rows, depth } = self.base;
            let turn = self.next_neighbour % 4;
            self.next_neighbour = self.next_neighbour.wrapping_add(1);
            let found = match turn {
                0 if rows + 1 < ROWS.len() => Setting { rows: rows + 1, depth },
                1 if depth < self.limits.in_flight_max => Setting { rows, depth: depth + 1 },
                2 if rows > 0 => Setting { rows: rows - 1, depth },
                3 if depth > 1 => Setting { rows, depth: depth - 1 },
                _ => continue,
            };
            if self.limits.rows_fixed.is_none() || found.rows == rows {
                return Some(found);
            }
        }
        None
    }
}

/// Records a second, less where batches take too long.
fn score(window: &Window, length: Duration) -> f64 {
    let mean = window.took / window.batches.max(1);
    let patience = BATCH_TIME_MAX.as_secs_f64() / mean.max(BATCH_TIME_MAX).as_secs_f64();
    window.records as f64 / length.as_secs_f64() * patience
}

#[cfg(test)]
#[path = "size_tests.rs"]
mod tests;
