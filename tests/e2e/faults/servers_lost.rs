//! Servers and services that are lost under load. After each loss the ledger balances, and every
//! reading acknowledged with 200 is stored exactly once.

use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::accounting::history::Answered;
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::clients::http;
use ljwx_tests::stack::Server;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;
use serde_json::json;

use crate::support::{SOON, finish, judge, load};

/// The number of the device that sends while Kafka is unreachable.
const PROBE: usize = 999_999;

async fn stored(world: &World) -> Result<i64> {
    world.database.count("t_user_health_data").await
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_stopped_means_503_with_retry_after_and_no_200_without_a_record() -> Result<()> {
    let world = World::exclusive("broker").await?;
    world.migrate().await?;
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    let fleet = load(&world, &gateway).await?;
    pass(Duration::from_secs(2)).await;
    let outage = Server::Kafka.stop().await?;
    let (device, at) = (world.device(PROBE), jiff::Timestamp::now().as_second());
    let reading = json!({"data": {"deviceSn": device, "timestamp": wall_time(at), "step": 1}});
    let reading = reading.to_string();
    let answer = http::post(&gateway.url("/upload_health_data"), reading).await?;
    ensure!(answer.status == 503, "{} without a broker: {}", answer.status, answer.text);
    ensure!(answer.json["status"] == "error", "{}", answer.text);
    let seconds = answer.header("retry-after").and_then(|value| value.parse::<u64>().ok());
    ensure!(seconds.is_some_and(|seconds| (1..=300).contains(&seconds)), "Retry-After {seconds:?}");
    eventually(SOON, "the gateway says that it is not ready", || async {
        Ok((http::get(&gateway.admin("/readyz")).await?.status == 503).then_some(()))
    })
    .await?;
    ensure!(
        http::get(&gateway.admin("/livez")).await?.status == 200,
        "the gateway must stay alive"
    );
    outage.end().await?;
    eventually(SOON, "the gateway is ready again", || async {
        Ok((http::get(&gateway.admin("/readyz")).await?.status == 200).then_some(()))
    })
    .await?;
    let mut report = fleet.finish().await?;
    // The probe got a 503, so its reading may be stored or not.
    report.history.note(&device, at, Answered::Unknown);
    ensure!(report.statuses.contains_key(&503), "nobody was asked to come back:\n{report}");
    judge(&world, &report).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_killed_in_mid_batch_loses_and_doubles_nothing() -> Result<()> {
    let world = World::exclusive("kill").await?;
    world.migrate().await?;
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    let fleet = load(&world, &gateway).await?;
    eventually(SOON, "something is stored", || async {
        Ok((stored(&world).await? > 100).then_some(()))
    })
    .await?;
    // The rows are locked, so the batch's transaction is open when the worker dies.
    let lock = world.database.lock("t_user_health_data").await?;
    let waiting = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                   WHERE db = DATABASE() AND info LIKE 'INSERT INTO t_user_health_data (%'";
    eventually(SOON, "a batch waits for its rows", || async {
        Ok((world.database.number(waiting).await? > 0).then_some(()))
    })
    .await?;
    worker.kill().await?;
    lock.release().await?;
    let second = world.worker().start().await?;
    pass(Duration::from_millis(700)).await;
    second.kill().await?;
    let third = world.worker().start().await?;
    judge(&world, &fleet.finish().await?).await?;
    finish(world, [gateway, third]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_stopped_and_back_loses_nothing_and_needs_nobody() -> Result<()> {
    let world = World::exclusive("mysql").await?;
    world.migrate().await?;
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    let fleet = load(&world, &gateway).await?;
    eventually(SOON, "something is stored", || async {
        Ok((stored(&world).await? > 100).then_some(()))
    })
    .await?;
    let outage = Server::Database.kill().await?;
    let accepted = fleet.progress(|report| report.acknowledged);
    pass(Duration::from_secs(3)).await;
    ensure!(http::get(&worker.admin("/livez")).await?.status == 200, "the worker must stay alive");
    ensure!(fleet.progress(|report| report.acknowledged) > accepted, "devices must not notice");
    outage.end().await?;
    judge(&world, &fleet.finish().await?).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_stopped_and_back_stops_no_storing_and_ends_up_current() -> Result<()> {
    let world = World::exclusive("redis").await?;
    world.migrate().await?;
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    let fleet = load(&world, &gateway).await?;
    eventually(SOON, "something is stored", || async {
        Ok((stored(&world).await? > 100).then_some(()))
    })
    .await?;
    let outage = Server::Redis.stop().await?;
    let before = stored(&world).await?;
    eventually(SOON, "storing goes on without Redis", || async {
        Ok((stored(&world).await? > before + 300).then_some(()))
    })
    .await?;
    outage.end().await?;
    judge(&world, &fleet.finish().await?).await?;
    finish(world, [gateway, worker]).await
}
