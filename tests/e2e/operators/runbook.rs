//! Runs the commands of the runbook that are marked as runnable, each unchanged.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::stack::wait::{eventually, pass};
use serde_json::json;

use super::watched::{DEVICES, SOON, Watched};
use crate::runbook_blocks::{blocks, run, variables};

/// The duration of a slow upload.
const SLOW_UPLOAD: Duration = Duration::from_millis(700);

/// The duration of a slow batch.
const SLOW_BATCH: Duration = Duration::from_millis(1500);

fn authority(address: &str) -> String {
    address.trim_start_matches("http://").trim_end_matches('/').to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_runnable_command_of_the_runbook_runs() -> Result<()> {
    let watched = Watched::start("oprunbook", |launch| launch).await?;
    let (world, stack) = (&watched.world, &watched.world.stack);
    let load = watched.load();
    watched.narrow().await?;
    watched.measure(DEVICES + 1, &[121, 122, 123, 201]).await?;
    // The commands that search for slow work need a slow request and a slow batch.
    let address = watched.gateway.listen().context("an address")?;
    let body =
        json!({"data": {"deviceSn": world.device(DEVICES + 2), "heart_rate": 70}}).to_string();
    http::post_slowly(address, "/upload_health_data", &body, SLOW_UPLOAD).await?;
    let lock = world.database.lock("ingest_progress").await?;
    pass(SLOW_BATCH).await;
    lock.release().await?;
    eventually(SOON, "an alert and a dead letter", || async {
        let letters = watched.worker.metric("dead_letters_total", "").await?;
        Ok((letters >= 1.0 && watched.wechat.delivered() >= 1).then_some(()))
    })
    .await?;
    let blocks = blocks("runnable", None)?;
    ensure!(blocks.len() > 20, "only {} blocks were found", blocks.len());
    let mut variables = variables(world)?;
    variables.extend([
        ("GATEWAY_ADMIN", authority(&watched.gateway.admin(""))),
        ("WORKER_ADMIN", authority(&watched.worker.admin(""))),
        ("ALERTER_ADMIN", authority(&watched.alerter.admin(""))),
        ("PROMETHEUS_URL", watched.prometheus.url().to_owned()),
        ("JAEGER_URL", stack.jaeger_url.clone().context("Jaeger is needed here")?),
    ]);
    for block in blocks {
        run(&block, &variables).await?;
    }
    drop(load);
    watched.end().await
}
