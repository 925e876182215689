//! A topic of a transactional producer: markers and aborted records are no readings.

use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::clients::transactions::TransactionalProducer;
use ljwx_tests::clients::{http, kafka};
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;
use serde_json::json;

use crate::support::{SOON, ensure_holds, finish};

/// Long enough for several checks of the topic.
const LOOKS: Duration = Duration::from_secs(6);

/// The time of the readings.
const EPOCH: i64 = 1_756_800_000;

/// Returns readings of a device as the gateway writes them, one a second.
fn readings(world: &World, device: usize, count: i64) -> Vec<String> {
    let reading = |second| {
        let epoch = EPOCH + second;
        json!({
            "device_sn": world.device(device), "timestamp": wall_time(epoch),
            "epoch_ms": epoch * 1000, "received_at": epoch * 1000, "customer_id": 1, "org_id": 2,
            "user_id": 3, "upload_method": "wifi", "heart_rate": 80,
        })
        .to_string()
    };
    (0..count).map(reading).collect()
}

async fn stored(world: &World, count: i64) -> Result<()> {
    eventually(SOON, &format!("{count} readings are stored"), || async {
        let rows = world.database.count("t_user_health_data").await?;
        ensure!(rows <= count, "{rows} rows");
        Ok((rows == count).then_some(()))
    })
    .await
}

/// Ensures that after some checks no service reports lag. A busy machine may need more of them.
async fn ensure_no_lag(services: &[&Service]) -> Result<()> {
    pass(LOOKS).await;
    for service in services {
        for metric in ["consumer_lag_records", "consumer_lag_seconds", "consumer_stalled_seconds"] {
            eventually(SOON, &format!("{}: {metric} is 0", service.name()), || async {
                let lag = service.metric(metric, "").await?;
                ensure!(lag == 0.0, "{lag}");
                Ok(Some(()))
            })
            .await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_and_aborted_readings_are_no_lag_and_no_rows() -> Result<()> {
    let world = World::shared("transactions").await?.with_partitions(2);
    world.migrate().await?;
    let wechat = FakeWechat::start().await?;
    let worker = world.worker().start().await?;
    let alerter = world.alerter(&wechat).start().await?;
    let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
    let producer = TransactionalProducer::start(brokers, topic, topic).await?;

    // One partition ends in a marker. The other has only aborted records.
    producer.begin(0, &readings(&world, 1, 3)).await?;
    producer.commit().await?;
    producer.begin(0, &readings(&world, 2, 2)).await?;
    producer.abort().await?;
    producer.begin(1, &readings(&world, 3, 20)).await?;
    producer.abort().await?;
    stored(&world, 3).await?;
    ensure!(world.lag().await? > 0, "there are offsets behind the last reading");
    ensure_no_lag(&[&worker, &alerter]).await?;
    let health = http::get(&worker.admin("/api/batch_processor/health")).await?;
    ensure!(health.json["queue_size"] == 0, "{}", health.text);
    let report = ensure_holds(&world, &[]).await?;
    ensure!(report["totals"]["lag"] == 0, "{:#}", report["totals"]);

    // A record that is not committed yet is no lag either. It is stored once it is committed.
    producer.begin(0, &readings(&world, 4, 1)).await?;
    ensure_no_lag(&[&worker, &alerter]).await?;
    producer.commit().await?;
    stored(&world, 4).await?;

    ensure!(worker.terminate().await?.success(), "the worker failed");
    producer.begin(0, &readings(&world, 5, 1)).await?;
    producer.commit().await?;
    producer.begin(1, &readings(&world, 6, 1)).await?;
    producer.abort().await?;
    let worker = world.worker().start().await?;
    stored(&world, 5).await?;
    producer.begin(0, &readings(&world, 7, 1)).await?;
    producer.commit().await?;
    stored(&world, 6).await?;
    let warnings = worker.output().matches("offsets without a record skipped and counted").count();
    ensure!(warnings == 1, "{warnings} warnings about the markers before the two readings");
    ensure!(worker.terminate().await?.success(), "the worker failed");
    let ledger = world.database.ledger(&world.worker_group).await?;
    ensure!(ledger.iter().all(ljwx_tests::clients::mysql::LedgerRow::balances), "{ledger:?}");
    let markers: i64 = ledger.iter().map(|row| row.skipped_gap).sum();
    let ends = kafka::watermarks(brokers, topic).await?;
    ensure!(markers > 0 && ends.len() == 2, "{markers} offsets without a reading in {ends:?}");
    finish(world, [alerter]).await
}

/// Longer than a worker may store nothing while readings wait.
const QUIET: Duration = Duration::from_secs(65);

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_topic_ends_in_a_marker_stays_healthy_however_quiet_it_is() -> Result<()> {
    let world = World::shared("quietmarker").await?.with_partitions(1);
    world.migrate().await?;
    let worker = world.worker().start().await?;
    let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
    let producer = TransactionalProducer::start(brokers, topic, topic).await?;
    producer.begin(0, &readings(&world, 1, 3)).await?;
    producer.commit().await?;
    stored(&world, 3).await?;
    pass(QUIET).await;
    let health = http::get(&worker.admin("/api/batch_processor/health")).await?;
    ensure!(health.json["status"] == "healthy", "{}", health.text);
    finish(world, [worker]).await
}
