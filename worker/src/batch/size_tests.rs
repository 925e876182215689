//! Tests the controller on a simulated database whose capacity changes. At every load it must be
//! better than the plan's rule and within 5 % of the best fixed size.

use rand::{RngExt, SeedableRng};

use super::*;
use crate::batch::buffer::FAST_ROWS;

/// Longest wait for more rows, in all tests.
const AGE: Duration = Duration::from_millis(100);

/// The cost of a batch: a constant, a part per row, and a part that grows with its size.
#[derive(Clone, Copy)]
struct Database {
    batch: f64,
    row: f64,
    crowd: f64,
    /// Batches that it processes at the same time.
    workers: usize,
    /// Relative spread of the times, up and down.
    noise: f64,
}

const QUICK: Database = Database { batch: 0.002, row: 12e-6, crowd: 0.0, workers: 2, noise: 0.0 };
const SLOW: Database = Database { batch: 0.060, row: 450e-6, crowd: 0.0, workers: 1, noise: 0.0 };
/// As on a machine that other programs use too.
const NOISY: Database = Database { noise: 0.4, ..QUICK };
/// Large batches slow each other down.
const CROWDED: Database =
    Database { batch: 0.004, row: 20e-6, crowd: 1e-7, workers: 4, noise: 0.0 };

impl Database {
    fn takes(&self, rows: usize, in_flight: usize) -> f64 {
        let rows = rows as f64;
        let alone = self.batch + self.row * rows + self.crowd * rows * rows;
        alone * (in_flight.max(self.workers) as f64 / self.workers as f64)
    }
}

/// The rule that chooses size and wait.
enum Rule {
    Fixed {
        rows: usize,
        depth: usize,
    },
    /// × 1.2 above 2,000 rows/s, × 0.8 below, between 50 and 1,000.
    Plan {
        rows: f64,
    },
    Ours(Box<BatchSizer>),
}

impl Rule {
    fn rows(&self) -> usize {
        match self {
            Self::Fixed { rows, .. } => *rows,
            Self::Plan { rows } => *rows as usize,
            Self::Ours(ours) => ours.rows(),
        }
    }

    fn depth(&self) -> usize {
        match self {
            Self::Fixed { depth, .. } => *depth,
            Self::Plan { .. } => 2,
            Self::Ours(ours) => ours.in_flight(),
        }
    }

    /// Returns how long the oldest of `waiting` readings may wait.
    fn linger(&self, waiting: usize) -> f64 {
        match self {
            Self::Ours(ours) if waiting >= FAST_ROWS => ours.fast_linger().as_secs_f64(),
            Self::Ours(ours) => ours.linger().as_secs_f64(),
            _ => AGE.as_secs_f64(),
        }
    }

    /// Returns the number of waiting readings that shortens the wait; without a shorter wait, the
    /// number that fills a batch.
    fn company(&self) -> usize {
        match self {
            Self::Ours(_) => FAST_ROWS.min(self.rows()),
            _ => self.rows(),
        }
    }

    fn note(&mut self, now: Instant, sample: BatchTiming) {
        match self {
            Self::Fixed { .. } => {}
            Self::Plan { rows } => {
                let throughput = sample.records as f64 / sample.took.as_secs_f64();
                let factor = if throughput > 2000.0 { 1.2 } else { 0.8 };
                *rows = (*rows * factor).clamp(50.0, 1000.0);
            }
            Self::Ours(ours) => ours.note(now, sample),
        }
    }
}

/// Readings per second, or `None` for a flood, and the length and database of each period.
struct Load {
    rate: Option<f64>,
    stretches: Vec<(f64, Database)>,
}

/// The result of a run: records stored per second, and their mean wait until stored.
#[derive(Debug, Clone, Copy)]
struct Result {
    throughput: f64,
    wait: f64,
}

fn run(mut rule: Rule, load: &Load) -> Result {
    let start = Instant::now();
    let end: f64 = load.stretches.iter().map(|(length, _)| length).sum();
    let (mut now, mut arrived, mut taken) = (0.0_f64, 0_u64, 0_u64);
    let (mut stored, mut waited) = (0_u64, 0.0_f64);
    // End, start, records, sum of arrival times, and whether full, of each batch in flight.
    let mut in_flight: Vec<(f64, f64, usize, f64, bool)> = Vec::new();
    // A fixed seed gives every rule the same noise in every run.
    let mut random = rand::rngs::StdRng::seed_from_u64(1);
    let arrival = |n: u64| load.rate.map_or(0.0, |rate| n as f64 / rate);
    while now < end {
        arrived = load.rate.map_or(taken + 5000, |rate| (now * rate) as u64).max(arrived);
        let waiting = (arrived - taken) as usize;
        let oldest = now - arrival(taken);
        let full = waiting >= rule.rows();
        if waiting > 0 && in_flight.len() < rule.depth() && (full || oldest >= rule.linger(waiting))
        {
            let records = waiting.min(rule.rows());
            let mut passed = 0.0;
            let database = load.stretches.iter().find(|(length, _)| {
                passed += length;
                now < passed
            });
            let Some((_, database)) = database else { break };
            let noise = 1.0 + database.noise * (2.0 * random.random::<f64>() - 1.0);
            let takes = database.takes(records, in_flight.len() + 1) * noise;
            let last = taken + records as u64 - 1;
            let arrivals = (arrival(taken) + arrival(last)) / 2.0 * records as f64;
            in_flight.push((now + takes, now, records, arrivals, full));
            taken += records as u64;
            continue;
        }
        let done = in_flight.iter().map(|batch| batch.0).fold(f64::INFINITY, f64::min);
        let due = if in_flight.len() >= rule.depth() {
            f64::INFINITY
        } else if waiting > 0 {
            arrival(taken) + rule.linger(waiting)
        } else {
            arrival(taken + 1)
        };
        let filled = load.rate.map_or(f64::INFINITY, |_| {
            if in_flight.len() >= rule.depth() {
                f64::INFINITY
            } else {
                // The next number of readings that may make the batch due.
                let company = rule.company();
                let next = if waiting < company { company } else { rule.rows() };
                arrival(taken + next as u64)
            }
        });
        now = done.min(due).min(filled).max(now + 1e-6);
        let finished: Vec<_> = in_flight.extract_if(.., |batch| batch.0 <= now).collect();
        for (at, since, records, arrivals, full) in finished {
            stored += records as u64;
            waited += at * records as f64 - arrivals;
            let took = Duration::from_secs_f64(at - since);
            rule.note(start + Duration::from_secs_f64(at), BatchTiming { records, took, full });
        }
    }
    Result { throughput: stored as f64 / end, wait: waited / stored.max(1) as f64 }
}

fn ours() -> Rule {
    let limits = BatchSizeLimits { rows_fixed: None, in_flight_max: 4, age_max: AGE };
    Rule::Ours(Box::new(BatchSizer::new(limits)))
}

/// Runs every fixed size and depth.
fn fixed(load: &Load) -> Vec<Result> {
    let sizes = ROWS.iter().flat_map(|rows| (1..=4).map(|depth| (*rows, depth)));
    sizes.map(|(rows, depth)| run(Rule::Fixed { rows, depth }, load)).collect()
}

#[test]
fn under_a_flood_more_gets_through_than_by_the_plan_s_rule_and_nearly_the_best() {
    for (name, stretches) in [
        ("quick", vec![(60.0, QUICK)]),
        ("quick and noisy", vec![(60.0, NOISY)]),
        ("slow", vec![(240.0, SLOW)]),
        ("crowded", vec![(60.0, CROWDED)]),
        ("quick, crowded, quick", vec![(60.0, QUICK), (60.0, CROWDED), (60.0, QUICK)]),
    ] {
        let load = Load { rate: None, stretches };
        let best = fixed(&load).iter().map(|fixed| fixed.throughput).fold(0.0, f64::max);
        let plan = run(Rule::Plan { rows: 200.0 }, &load).throughput;
        let ours = run(ours(), &load).throughput;
        println!("flood, {name}: ours {ours:.0}, plan {plan:.0}, best fixed {best:.0} rows/s");
        assert!(ours >= 0.95 * best, "{name}: {ours:.0} of {best:.0} rows/s");
        // Above 2,000 rows/s the plan's rule grows to the largest size, which may be the best.
        assert!(ours > plan || plan >= 0.99 * best, "{name}: {ours:.0}, the rule {plan:.0} rows/s");
    }
}

#[test]
fn without_a_flood_readings_wait_less_than_by_the_plan_s_rule() {
    for (name, rate) in [("trickle", 20.0), ("steady", 2000.0)] {
        for (database, stretches) in [
            ("quick", vec![(60.0, QUICK)]),
            ("quick, crowded", vec![(30.0, QUICK), (30.0, CROWDED)]),
        ] {
            let load = Load { rate: Some(rate), stretches };
            let best = fixed(&load).iter().map(|fixed| fixed.wait).fold(f64::INFINITY, f64::min);
            let plan = run(Rule::Plan { rows: 200.0 }, &load);
            let ours = run(ours(), &load);
            let (ms, theirs) = (ours.wait * 1e3, plan.wait * 1e3);
            println!(
                "{name}, {database}: ours {ms:.1} ms, plan {theirs:.1} ms, best fixed {:.1} ms",
                best * 1e3
            );
            assert!(ours.throughput >= 0.99 * rate, "{name}: {:.0} of {rate}/s", ours.throughput);
            assert!(ours.wait <= 1.05 * best, "{name}: {ms:.1} ms, best {:.1} ms", best * 1e3);
            assert!(ours.wait < plan.wait, "{name}: {ms:.1} ms, the rule {theirs:.1} ms");
        }
    }
}

#[test]
fn a_fixed_size_stays_and_bounds_hold() {
    let limits = BatchSizeLimits { rows_fixed: Some(300), in_flight_max: 3, age_max: AGE };
    let mut adaptive = BatchSizer::new(limits);
    let start = Instant::now();
    for n in 0..10_000_u64 {
        let took = Duration::from_millis(20 + n % 7);
        let now = start + Duration::from_millis(20 * n);
        adaptive.note(now, BatchTiming { records: 300, took, full: n % 50 != 0 });
        assert_eq!(adaptive.rows(), 300);
        assert!((1..=3).contains(&adaptive.in_flight()));
        assert!((LINGER_MIN..=AGE).contains(&adaptive.linger()));
    }
}
