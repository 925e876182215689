//! Replicas that freeze, die or have no partition: which replica has which partition, and how soon.

use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;

use crate::support::{SOON, finish, settled};

/// Shorter than a session of 6 s, less one second for a heartbeat.
const FROZEN: Duration = Duration::from_secs(4);

/// The time after a freeze in which no partition may move.
const UNMOVED: Duration = Duration::from_secs(3);

/// A session of 6 s, and a margin for a busy machine.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(20);

/// The partitions of the topic.
const PARTITIONS: u32 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn a_short_freeze_moves_nothing_and_a_killed_worker_is_replaced_soon() -> Result<()> {
    freeze_and_kill("takeover", "classic").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_is_replaced_as_soon_where_the_broker_assigns() -> Result<()> {
    freeze_and_kill("takeover_broker", "consumer").await
}

async fn freeze_and_kill(name: &str, protocol: &str) -> Result<()> {
    let world = World::exclusive(name).await?.with_partitions(PARTITIONS);
    world.migrate().await?;
    let worker = || world.worker().env("GROUP_PROTOCOL", protocol).start();
    let (first, second) = tokio::try_join!(worker(), worker())?;
    eventually(SOON, "each owns a partition", || async {
        let owned = [owned(&first).await?, owned(&second).await?];
        Ok((owned == [1.0, 1.0]).then_some(()))
    })
    .await?;
    // More replicas than partitions: a replica without a partition is ready and healthy, too.
    let spare = worker().await?;
    ensure!(owned(&spare).await? == 0.0, "it took a partition away");
    eventually(SOON, "the spare one is healthy", || async {
        let answer = http::get(&spare.admin("/api/batch_processor/health")).await?;
        Ok((answer.json["status"] == "healthy").then_some(()))
    })
    .await?;

    let before = epochs(&world).await?;
    second.signal("STOP").await?;
    pass(FROZEN).await;
    second.signal("CONT").await?;
    pass(UNMOVED).await;
    ensure!(epochs(&world).await? == before, "a freeze of {FROZEN:?} moved partitions");

    second.kill().await?;
    eventually(TAKEN_OVER_WITHIN, "the others have its partition", || async {
        let owned = owned(&first).await? + owned(&spare).await?;
        Ok((owned == f64::from(PARTITIONS)).then_some(()))
    })
    .await?;
    settled(&world).await?;
    finish(world, [first, spare]).await
}

async fn owned(worker: &Service) -> Result<f64> {
    worker.metric("consumer_partitions_owned", "").await
}

/// Returns the epoch of each partition: every move raises it by one.
async fn epochs(world: &World) -> Result<Vec<Vec<Option<String>>>> {
    world.database.rows("SELECT `partition`, epoch FROM ingest_progress ORDER BY 1").await
}
