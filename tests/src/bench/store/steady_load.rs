//! Measures the worker beside a producer: how long readings wait at half load, and whether the
//! worker's memory grows in a flood.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;

use super::settings::PARTITIONS;
use crate::bench::fill_topic::Filler;
use crate::bench::histogram::Buckets;
use crate::bench::table::{Table, median};
use crate::bench::usage;
use crate::bench::worker_run::{passed, worker};
use crate::bench::workload::{DEVICES, Feed, Sample, Workload};
use crate::stack::process::Service;
use crate::stack::wait::{eventually, pass};
use crate::stack::world::World;

/// Duration of the half load.
const HALF_LENGTH: Duration = Duration::from_secs(30);

/// Time between two steps in which the producer catches up with its rate.
const STEP: Duration = Duration::from_millis(10);

/// The longest until the last reading is stored.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

/// Readings that a flood sends ahead of the worker: some seconds of work.
const AHEAD: i64 = 200_000;

/// Readings that a flood sends at a time.
const WAVE: usize = 50_000;

/// Time between two samples of the memory.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);

/// Samples of a minute.
const MINUTE: usize = 6;

/// Growth of the resident memory that is accepted: the memory that allocators keep varies.
const GROWTH_MAX: f64 = 1.1;

/// Creates a world and a worker that has all of its partitions.
async fn idle() -> anyhow::Result<(World, Service)> {
    let world = World::shared("bench").await?.with_partitions(PARTITIONS);
    world.migrate().await?;
    let service = worker(&world, true)?;
    // Readings sent before this would wait for the group, not for the worker.
    eventually(SETTLED_WITHIN, "the worker has its partitions", || async {
        let ledger = world.database.ledger(&world.worker_group).await?;
        Ok((ledger.len() == world.partitions()).then_some(()))
    })
    .await?;
    Ok((world, service))
}

/// Measures the 95th percentile of the wait of a batch's oldest reading, at half of `rate`.
pub(super) async fn wait_at_half(rate: f64, table: &mut Table) -> anyhow::Result<()> {
    let (world, service) = idle().await?;
    let all = (rate / 2.0 * HALF_LENGTH.as_secs_f64()) as usize;
    let mut feed = Feed::new(&world, Workload::VitalsTurns, all);
    let filler = Filler::new(&world)?;
    let (started, mut sent) = (Instant::now(), 0);
    while sent < all {
        let due = (started.elapsed().as_secs_f64() * rate / 2.0) as usize;
        let wave: Vec<Sample> = feed.by_ref().take(due.min(all) - sent).collect();
        filler.send(&wave)?;
        sent += wave.len();
        pass(STEP).await;
    }
    filler.flush()?;
    let seconds = started.elapsed().as_secs_f64();
    eventually(SETTLED_WITHIN, "the half load is stored", || async {
        Ok((passed(&world).await? >= sent as i64).then_some(()))
    })
    .await?;
    let waits = Buckets::of(&service, "batch_queue_wait_seconds", "statistic=\"oldest\"").await?;
    let wait = waits.quantile(0.95);
    table.fact("half load, readings/s", sent as f64 / seconds, "/s");
    table.at_most("half load, P95 of the oldest reading's wait", wait, 1.0, " s");
    service.terminate().await?;
    world.finish().await
}

/// Floods a worker for `length`; the topic is never empty.
pub(super) async fn soak(length: Duration, table: &mut Table) -> anyhow::Result<()> {
    let (world, service) = idle().await?;
    // The readings' times start a day ago: each second has one reading of every device.
    let mut feed = Feed::new(&world, Workload::VitalsTurns, DEVICES * 86_400);
    let filler = Filler::new(&world)?;
    let (started, mut sent) = (Instant::now(), 0_i64);
    let mut resident = Vec::new();
    let mut done = 0;
    while started.elapsed() < length {
        while sent < done + AHEAD {
            let wave: Vec<Sample> = feed.by_ref().take(WAVE).collect();
            filler.send(&wave)?;
            sent += wave.len() as i64;
        }
        pass(Duration::from_millis(200)).await;
        done = passed(&world).await?;
        if started.elapsed() >= SAMPLE_INTERVAL * (resident.len() as u32 + 1) {
            let now = usage::resident(&service);
            println!("  {:>4} s: {done} readings, {now:.1} MiB", started.elapsed().as_secs());
            ensure!(now.is_finite(), "the worker is gone");
            resident.push(now);
        }
    }
    let minute = MINUTE.min(resident.len() / 2).max(1);
    let first = median(resident.iter().take(minute).copied().collect());
    let last = median(resident.iter().rev().take(minute).copied().collect());
    table.fact("flood, readings/s", done as f64 / started.elapsed().as_secs_f64(), "/s");
    table.fact("flood, resident memory in the first minute", first, " MiB");
    table.fact("flood, resident memory in the last minute", last, " MiB");
    table.at_most("flood, last minute over first", last / first, GROWTH_MAX, "");
    service.terminate().await?;
    world.finish().await
}
