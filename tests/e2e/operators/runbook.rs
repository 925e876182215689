//! Runs the commands of the runbook that are marked as runnable, each unchanged.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::clients::prometheus::deploy_folder;
use ljwx_tests::repo::markdown::{self, Block};
use ljwx_tests::stack::launch::program_folder;
use ljwx_tests::stack::wait::{eventually, pass};
use serde_json::json;
use tokio::process::Command;

use super::watched::{DEVICES, SOON, Watched};

/// The longest that one block may take.
const BLOCK_WITHIN: Duration = Duration::from_secs(60);

/// The duration of a slow upload.
const SLOW_UPLOAD: Duration = Duration::from_millis(700);

/// The duration of a slow batch.
const SLOW_BATCH: Duration = Duration::from_millis(1500);

/// Returns the blocks to run.
fn blocks() -> Result<Vec<Block>> {
    let text = std::fs::read_to_string(deploy_folder().join("runbook.md"))?;
    let blocks = markdown::blocks(&text).into_iter();
    Ok(blocks.filter(|block| block.info == "sh runnable").collect())
}

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
    let blocks = blocks()?;
    ensure!(blocks.len() > 20, "only {} blocks were found", blocks.len());
    let path = format!("{}:{}", program_folder()?.display(), std::env::var("PATH")?);
    for block in blocks {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &block.text]);
        command.envs([
            ("PATH", path.as_str()),
            ("KAFKA_BROKERS", &stack.kafka_brokers),
            ("MYSQL_URL", world.database.url()),
            ("REDIS_URL", &stack.redis_url),
            ("READINGS_TOPIC", &world.readings_topic),
            ("REJECTS_TOPIC", &world.rejects_topic),
            ("WORKER_GROUP", &world.worker_group),
            ("ALERTER_GROUP", &world.alerter_group),
            ("TIME_ZONE", ljwx_tests::stack::world::TIME_ZONE),
            ("GATEWAY_ADMIN", &authority(&watched.gateway.admin(""))),
            ("WORKER_ADMIN", &authority(&watched.worker.admin(""))),
            ("ALERTER_ADMIN", &authority(&watched.alerter.admin(""))),
            ("PROMETHEUS_URL", watched.prometheus.url()),
            ("JAEGER_URL", stack.jaeger_url.as_deref().context("Jaeger is needed here")?),
            ("LOG_FORMAT", "human"),
        ]);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(BLOCK_WITHIN, command.output())
            .await
            .with_context(|| format!("runbook.md:{}: no end", block.line))??;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        ensure!(output.status.success(), "runbook.md:{}:\n{}{said}", block.line, block.text);
        ensure!(!said.trim().is_empty(), "runbook.md:{} says nothing:\n{}", block.line, block.text);
    }
    drop(load);
    watched.end().await
}
