//! Readings at a steady rate, and how soon the alerter evaluates them.

use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

use super::workload::HEART_RATE;
use crate::bench::fill_topic::Filler;
use crate::bench::workload::{Record, record};
use crate::stack::process::Service;
use crate::stack::wait::pass;
use crate::stack::world::World;

/// Readings a second.
pub(super) const RATE: f64 = 2000.0;

/// Devices of the readings. Each measures every ten seconds.
pub(super) const DEVICES: usize = 20_000;

/// Time between two steps in which the producer catches up with its rate.
const STEP: Duration = Duration::from_millis(10);

/// Time between two looks at the alerter: the error of a gap, and of a wait.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Sends readings at the rate until there is none. `reading` returns the `number`th reading.
pub(super) async fn send(
    world: &World,
    mut reading: impl FnMut(usize) -> Option<Record>,
) -> anyhow::Result<()> {
    let filler = Filler::new(world)?;
    let (started, mut number) = (Instant::now(), 0);
    loop {
        let due = (started.elapsed().as_secs_f64() * RATE) as usize;
        while number < due {
            let Some(record) = reading(number) else { return filler.flush() };
            let Record { device, partition, value } = record;
            filler.put(&device, partition, &value)?;
            number += 1;
        }
        pass(STEP).await;
    }
}

/// Sends usual readings at the rate until `measured` ends, and returns its result.
pub(super) async fn beside<T>(
    world: &World,
    measured: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let load = send(world, |number| {
        let now = jiff::Timestamp::now().as_second();
        Some(record(world, number % DEVICES, now, HEART_RATE))
    });
    tokio::select! {
        sent = load => {
            sent?;
            bail!("the load has ended")
        }
        measured = measured => measured,
    }
}

/// How soon an alerter evaluates the readings of a load, as its counter of readings shows.
#[derive(Debug)]
pub(super) struct Progress {
    begun: Instant,
    others: f64,
    changed: Instant,
    /// Readings that the alerter has evaluated, those of others included.
    pub(super) evaluated: f64,
    /// Longest time without an evaluation.
    pub(super) gap: Duration,
    /// Longest time for which a reading of the load has waited for its evaluation, in seconds.
    pub(super) wait: f64,
}

impl Progress {
    /// Begins to follow a load that began at `begun`. The alerter has evaluated this many readings
    /// of `others`.
    pub(super) fn new(begun: Instant, others: usize) -> Self {
        Self {
            begun,
            others: others as f64,
            changed: Instant::now(),
            evaluated: 0.0,
            gap: Duration::ZERO,
            wait: 0.0,
        }
    }

    /// Looks at the alerter, and lets the time to the next look pass.
    pub(super) async fn look(&mut self, alerter: &Service) {
        // An alerter that has just been started does not answer yet.
        let counted = alerter.metric("alerter_readings_total", "").await;
        let evaluated = counted.unwrap_or(self.evaluated);
        let now = Instant::now();
        self.gap = self.gap.max(now - self.changed);
        if evaluated > self.evaluated {
            (self.evaluated, self.changed) = (evaluated, now);
        }
        let next_sent = (self.evaluated - self.others) / RATE;
        self.wait = self.wait.max((now - self.begun).as_secs_f64() - next_sent);
        pass(LOOK_INTERVAL).await;
    }
}
