//! Runs the alerter on a full topic.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;

use crate::bench::usage::{self, Mark, Usage};
use crate::fakes::wechat::FakeWechat;
use crate::stack::process::Service;
use crate::stack::wait::{eventually, pass};
use crate::stack::world::World;

/// Time between two checks of the ledger.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The longest that a run may take.
const DONE_WITHIN: Duration = Duration::from_secs(900);

/// The longest until an alerter owns its partitions.
const OWNED_WITHIN: Duration = Duration::from_secs(60);

/// The tables that the alerter writes.
const TABLES: [&str; 5] =
    ["t_alert_info", "t_alert_action_log", "t_alert_journal", "t_alert_state", "t_alert_outbox"];

/// The figures of a run.
#[derive(Debug)]
pub(super) struct Run {
    /// Use of the machine from the ledger's first move to its last.
    pub(super) usage: Usage,
    /// The alerter's resident memory at the end, in MiB.
    pub(super) resident: f64,
    /// Episodes that opened.
    pub(super) opened: f64,
}

/// Starts an alerter that records no trace.
pub(super) fn alerter(world: &World, wechat: &FakeWechat) -> anyhow::Result<Service> {
    world.alerter(wechat).env("TRACE_SAMPLE_RATIO", "0").spawn()
}

/// Waits until an alerter owns every partition.
pub(super) async fn owned(world: &World) -> anyhow::Result<()> {
    eventually(OWNED_WITHIN, "the alerter has its partitions", || async {
        let ledger = world.database.ledger(&world.alerter_group).await?;
        Ok((ledger.len() == world.partitions()).then_some(()))
    })
    .await
}

/// Clears all that was evaluated; topic and rules stay.
pub(super) async fn cleared(world: &World) -> anyhow::Result<()> {
    for table in TABLES {
        world.database.execute(&format!("TRUNCATE TABLE {table}")).await?;
    }
    // Without its row a partition starts with its first record again.
    world.database.execute("DELETE FROM ingest_progress").await
}

/// Makes an alerter without state evaluate the whole topic.
pub(super) async fn run(
    world: &World,
    wechat: &FakeWechat,
    readings: usize,
) -> anyhow::Result<Run> {
    cleared(world).await?;
    let alerter = alerter(world, wechat)?;
    let (first, last) = watched(world, &alerter, readings as i64).await?;
    let run = Run {
        usage: first.until(&last),
        resident: usage::resident(&alerter),
        opened: alerter.metric("alerter_transitions_total", "transition=\"opened\"").await?,
    };
    let late = alerter.metric("alerter_readings_total", "outcome=\"late\"").await?;
    ensure!(late < 1.0, "{late} readings were late");
    alerter.terminate().await?;
    Ok(run)
}

/// Returns the marks at the ledger's first move and when `readings` were passed.
pub(super) async fn watched(
    world: &World,
    alerter: &Service,
    readings: i64,
) -> anyhow::Result<(Mark, Mark)> {
    let deadline = Instant::now() + DONE_WITHIN;
    let mut first: Option<Mark> = None;
    loop {
        let done = passed(world).await?;
        ensure!(Instant::now() < deadline, "the alerter has done {done} of {readings}");
        match first {
            None if done > 0 => first = Some(Mark::now(alerter, done)),
            Some(first) if done >= readings => return Ok((first, Mark::now(alerter, done))),
            _ => {}
        }
        pass(LOOK_INTERVAL).await;
    }
}

/// Returns the number of readings that the ledger has passed.
pub(super) async fn passed(world: &World) -> anyhow::Result<i64> {
    let ledger = world.database.ledger(&world.alerter_group).await?;
    Ok(ledger.iter().map(|row| row.next_offset - row.first_offset).sum())
}
