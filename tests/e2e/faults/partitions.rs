//! Partitions whose claim is lost, or whose position the topic does not have: what waits for them
//! ends without a restart, and the other partitions continue.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::{http, kafka};
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;
use serde_json::json;

use crate::support::{
    SOON, alerting, delivered, ensure_holds, evaluated, finish, measure, partition_of, pipeline,
    seeded, send, settled, world,
};

/// The devices of a test. They are in several partitions.
const DEVICES: usize = 6;

/// Longer than the wait of a fetch that is under way when a worker freezes.
const FETCH_ENDED: Duration = Duration::from_millis(300);

/// Sends one reading of each device.
async fn one_each(world: &World, gateway: &Service, minute: usize) -> Result<()> {
    for number in 1..=DEVICES {
        let at = format!("2025-09-02 16:{minute:02}");
        send(gateway, &world.device(number), &at, &[80]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_claim_is_lost_is_claimed_again_without_a_restart() -> Result<()> {
    claims_lost("claims", "classic").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_claim_is_claimed_again_where_the_broker_assigns_too() -> Result<()> {
    claims_lost("claims_broker", "consumer").await
}

async fn claims_lost(name: &str, protocol: &str) -> Result<()> {
    let world = world(name).await?;
    let worker = world.worker().env("GROUP_PROTOCOL", protocol);
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), worker.start())?;
    one_each(&world, &gateway, 0).await?;
    settled(&world).await?;
    let losses = [
        // A backup, or a replica that lacks the last claim.
        "UPDATE ingest_progress SET epoch = 0",
        // A worker that was frozen in the middle of a rebalance.
        "UPDATE ingest_progress SET epoch = epoch + 1, owner = 'another'",
    ];
    for (minute, loss) in (1..).zip(losses) {
        world.database.execute(loss).await?;
        one_each(&world, &gateway, minute).await?;
        settled(&world).await?;
        let rows = world.database.count("t_user_health_data").await?;
        ensure!(rows == (DEVICES * (minute + 1)) as i64, "{rows} rows after: {loss}");
    }
    ensure_holds(&world, &[]).await?;
    // No reading arrives meanwhile. The ledger begins anew with what the topic has.
    let last_epoch = "SELECT MAX(epoch) FROM ingest_progress";
    let before = world.database.number(last_epoch).await?;
    world.database.execute("DELETE FROM ingest_progress").await?;
    settled(&world).await?;
    let after = world.database.number(last_epoch).await?;
    ensure!(
        after > before,
        "epoch {after} after {before}: deliveries of the lost claim would pass"
    );
    let rows = world.database.count("t_user_health_data").await?;
    ensure!(rows == (DEVICES * 3) as i64, "{rows} rows");
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_a_restored_database_lacks_are_written_again() -> Result<()> {
    let (world, gateway, worker) = pipeline("documents_back").await?;
    let reading = json!({"deviceSn": world.device(1), "timestamp": "2025-09-02 16:09:00",
                         "sleepData": {"code": 0, "data": [{"type": 2}]},
                         "exerciseWeekData": {"code": 0, "data": [{"type": 1}]}});
    let body = json!({ "data": reading }).to_string();
    let answer = http::post(&gateway.url("/upload_health_data"), body).await?;
    ensure!(answer.json["details"]["success"] == 1, "{}", answer.text);
    settled(&world).await?;
    let tables = ["t_user_health_data", "t_user_health_data_daily", "t_user_health_data_weekly"];
    // The worker runs on while a backup from before the reading is restored.
    for table in tables.into_iter().chain(["ingest_progress"]) {
        world.database.execute(&format!("DELETE FROM {table}")).await?;
    }
    settled(&world).await?;
    for table in tables {
        let rows = world.database.count(table).await?;
        ensure!(rows == 1, "{rows} rows in {table}");
    }
    ensure_holds(&world, &[]).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_that_overtakes_a_running_worker_holds_only_that_partition() -> Result<()> {
    let (world, gateway, worker) = pipeline("overtaken").await?;
    one_each(&world, &gateway, 0).await?;
    settled(&world).await?;
    let partition = partition_of(&world, 1).await?;
    worker.signal("STOP").await?;
    pass(FETCH_ENDED).await;
    send(&gateway, &world.device(1), "2025-09-02 17:00", &[90, 91, 92]).await?;
    let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
    let end = kafka::watermarks(brokers, topic).await?;
    let end = end.iter().find(|end| end.partition == partition).context("partition")?.high;
    kafka::delete_before(brokers, topic, partition, end - 1).await?;
    worker.signal("CONT").await?;
    let command = format!("worker offsets --partition {partition} --to-offset {}", end - 1);
    eventually(SOON, "the worker names the way out", || async {
        Ok(worker.output().contains(&command).then_some(()))
    })
    .await?;
    let unclaimed = worker.metric("consumer_partitions_unclaimed", "").await?;
    ensure!(unclaimed == 1.0, "{unclaimed} partitions are unclaimed");
    let mut stored = DEVICES as i64;
    for number in 2..=DEVICES {
        if partition_of(&world, number).await? != partition {
            send(&gateway, &world.device(number), "2025-09-02 18:00", &[80]).await?;
            stored += 1;
        }
    }
    eventually(SOON, "the other partitions continue", || async {
        Ok((world.database.count("t_user_health_data").await? == stored).then_some(()))
    })
    .await?;
    let arguments: Vec<_> = command.split(' ').skip(1).chain(["--execute"]).collect();
    let moved = world.launch("worker", &arguments).finish().await?;
    ensure!(moved.code == Some(0), "{}", moved.text);
    settled(&world).await?;
    let rows = world.database.count("t_user_health_data").await?;
    ensure!(rows == stored + 1, "{rows} rows: the last of the three is there");
    let report = ensure_holds(&world, &[]).await?;
    ensure!(report["totals"]["skipped_gap"] == 2, "{:#}", report["totals"]);
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alerter_whose_claims_are_lost_notifies_without_a_restart() -> Result<()> {
    let (world, wechat) = seeded("alertclaims").await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    let now = jiff::Timestamp::now().as_second();
    let losses = [
        "UPDATE ingest_progress SET epoch = epoch + 1, owner = 'another'",
        "UPDATE ingest_progress SET epoch = 0",
        // The last offset is evaluated again, under a claim of its own.
        "UPDATE ingest_progress SET next_offset = next_offset - 1, rewound = rewound + 1 \
         WHERE next_offset > first_offset",
    ];
    for (device, loss) in (1..).zip(losses) {
        measure(&gateway, &world.device(device), now - 300, &[130, 131, 132]).await?;
        delivered(&wechat, device as u64).await?;
        evaluated(&world).await?;
        world.database.execute(loss).await?;
    }
    let device = losses.len() + 1;
    measure(&gateway, &world.device(device), now - 300, &[130, 131, 132]).await?;
    delivered(&wechat, device as u64).await?;
    // Only a write finds a position that was moved without a claim.
    for number in 1..=device {
        measure(&gateway, &world.device(number), now - 200, &[80]).await?;
    }
    evaluated(&world).await?;
    let alerts = world.database.count("t_alert_info").await?;
    ensure!(alerts == device as i64, "{alerts} alerts of {device} devices");
    finish(world, [gateway, alerter]).await
}
