//! Runs the worker on a full topic: rate, batches and use of the machine. Filling the topic belongs
//! to [`super::fill_topic`].

use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;

use super::fill_topic::cleared;
use super::usage::{self, Mark};
use crate::stack::process::Service;
use crate::stack::wait::pass;
use crate::stack::world::World;

/// Time between two checks of the ledger.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The longest that a run may take.
const DONE_WITHIN: Duration = Duration::from_secs(900);

/// The figures of a run.
#[derive(Debug)]
pub(super) struct Run {
    /// Readings a second, from the ledger's first move to its last.
    pub(super) rate: f64,
    /// Batches a second.
    pub(super) batches: f64,
    /// The worker's processor seconds per 100,000 readings.
    pub(super) cpu: f64,
    /// The database server's processor seconds.
    pub(super) server_cpu: f64,
    /// Redis's processor seconds.
    pub(super) redis_cpu: f64,
    /// The worker's resident memory at the end, in MiB.
    pub(super) resident: f64,
}

/// Starts a worker that records no trace.
pub(super) fn worker(world: &World, redis: bool) -> anyhow::Result<Service> {
    let launch = world.worker().env("TRACE_SAMPLE_RATIO", "0");
    if redis { launch.spawn() } else { launch.env("NO_REDIS", "true").spawn() }
}

/// Empties the tables and makes a worker store the whole topic.
pub(super) async fn run(world: &World, readings: usize, redis: bool) -> anyhow::Result<Run> {
    cleared(world).await?;
    run_with(world, worker(world, redis)?, readings, redis).await
}

/// Makes this worker store the whole topic. The caller has emptied the tables before its start.
pub(super) async fn run_with(
    world: &World,
    worker: Service,
    readings: usize,
    redis: bool,
) -> anyhow::Result<Run> {
    let readings = readings as i64;
    let deadline = Instant::now() + DONE_WITHIN;
    let mut first: Option<Mark> = None;
    let (first, last) = loop {
        let done = passed(world).await?;
        ensure!(Instant::now() < deadline, "the worker has done {done} of {readings}");
        match first {
            None if done > 0 => first = Some(Mark::now(&worker, done)),
            Some(first) if done >= readings => break (first, Mark::now(&worker, done)),
            _ => {}
        }
        pass(LOOK_INTERVAL).await;
    };
    let usage = first.until(&last);
    // The share of all batches that lies between the marks.
    let share = usage.readings / last.done as f64;
    let run = Run {
        rate: usage.rate(),
        batches: worker.metric("batches_total", "").await? * share / usage.seconds,
        cpu: usage.cpu,
        server_cpu: usage.server_cpu,
        redis_cpu: usage.redis_cpu,
        resident: usage::resident(&worker),
    };
    if redis {
        ensure!(worker.metric("redis_errors_total", "").await? < 1.0, "Redis did not take it all");
    }
    worker.terminate().await?;
    Ok(run)
}

/// Returns the number of readings that the ledger has passed.
pub(super) async fn passed(world: &World) -> anyhow::Result<i64> {
    let ledger = world.database.ledger(&world.worker_group).await?;
    Ok(ledger.iter().map(|row| row.next_offset - row.first_offset).sum())
}
