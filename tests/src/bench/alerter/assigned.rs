//! Measures an alerter that takes over a million devices: the time from the assignment of their
//! partitions to the first evaluation, the memory, and the wait of the readings that come meanwhile.

use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::Instant;

use super::run::{alerter, watched};
use super::steady_load::{Progress, RATE, beside};
use super::workload::{HEART_RATE, PARTITIONS, send_each};
use crate::bench::table::Table;
use crate::bench::usage;
use crate::fakes::platform;
use crate::fakes::wechat::FakeWechat;
use crate::stack::process::Service;
use crate::stack::world::World;

/// Devices of all partitions: as many as a replica remembers. The load's are among them.
const DEVICES: usize = 1_000_000;

/// Readings of each device before, each a line of the journal. A journal of four lines a device is
/// replaced by one of a line each.
const READINGS_EACH: i64 = 3;

/// Time between two readings of a device before, in seconds.
const STEP_SECONDS: i64 = 60;

/// Time without a reading after which a device is missing: longer than a run.
const WINDOW: Duration = Duration::from_secs(3_600);

/// The longest until the alerter evaluates: far longer than the measured time.
const EVALUATED_WITHIN: Duration = Duration::from_secs(300);

/// Time for which the load is followed after the first evaluation. What waited is evaluated.
const AFTER: Duration = Duration::from_secs(10);

/// Longest time for which a reading may wait, in seconds.
const WAIT_MAX: f64 = 15.0;

/// The result of a takeover.
struct Takeover {
    /// Seconds from the assignment to the first evaluation.
    loaded: f64,
    progress: Progress,
    alerter: Service,
}

/// Fills the journals, then starts another alerter beside a load that has begun.
pub(super) async fn measure(table: &mut Table) -> anyhow::Result<()> {
    println!("alerter: {DEVICES} devices assigned at once, beside {RATE} readings/s");
    let world = World::shared("bench").await?.with_partitions(PARTITIONS);
    world.migrate().await?;
    platform::add_absence_rule(&world, WINDOW).await?;
    let wechat = FakeWechat::start().await?;
    let now = jiff::Timestamp::now().as_second();
    for turn in 0..READINGS_EACH {
        let epoch = now - (READINGS_EACH - turn) * STEP_SECONDS;
        send_each(&world, 0..DEVICES, epoch, HEART_RATE)?;
    }
    let before = alerter(&world, &wechat)?;
    watched(&world, &before, DEVICES as i64 * READINGS_EACH).await?;
    before.terminate().await?;
    let lines = world.database.number("SELECT SUM(devices) FROM t_alert_journal").await?;
    let takeover = beside(&world, takeover(&world, &wechat)).await?;
    let Takeover { loaded, progress, alerter } = takeover;
    let name = |what: &str| format!("{DEVICES} assigned: {what}");
    table.fact(&name("lines of their journals"), lines as f64, "");
    table.fact(&name("until the first evaluation"), loaded, " s");
    table.at_most(&name("longest wait of a reading"), progress.wait, WAIT_MAX, " s");
    table.fact(&name("RSS"), usage::resident(&alerter), " MiB");
    let most = alerter.memory("VmHWM").unwrap_or(f64::NAN);
    table.fact(&name("RSS, at most"), most, " MiB");
    alerter.terminate().await?;
    world.finish().await
}

/// Starts an alerter, and follows it until what waited is evaluated. The load begins now.
async fn takeover(world: &World, wechat: &FakeWechat) -> anyhow::Result<Takeover> {
    let mut progress = Progress::new(Instant::now(), 0);
    let alerter = alerter(world, wechat)?;
    let (end, mut assigned) = (Instant::now() + EVALUATED_WITHIN, None);
    while progress.evaluated < 1.0 {
        ensure!(Instant::now() < end, "the alerter evaluates nothing");
        let owned = alerter.metric("consumer_partitions_owned", "").await.unwrap_or_default();
        if owned > 0.0 {
            assigned.get_or_insert_with(Instant::now);
        }
        progress.look(&alerter).await;
    }
    let assigned = assigned.context("the alerter had no partition when it evaluated")?;
    let loaded = assigned.elapsed().as_secs_f64();
    let end = Instant::now() + AFTER;
    while Instant::now() < end {
        progress.look(&alerter).await;
    }
    Ok(Takeover { loaded, progress, alerter })
}
