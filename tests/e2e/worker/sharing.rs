//! Work that workers share, of one version or of two, and work that is repeated.

use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::accounting::verdict;
use ljwx_tests::clients::kafka;
use ljwx_tests::fleet::{self, Fleet, Settings};
use ljwx_tests::stack::launch::Launch;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::json;

use crate::support::{
    SOON, ensure_holds, finish, judge, last_release_of, letters, pipeline, settled, world,
};

/// The longest load of a rollout. It ends with the rollout.
const ROLLOUT_MAX: Duration = Duration::from_secs(180);

/// Readings that make a rollout one under load.
const ROLLOUT_READINGS: u64 = 3_000;

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_the_partitions_and_store_everything_once() -> Result<()> {
    shared_by_two("share", "classic").await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_as_well_where_the_broker_assigns() -> Result<()> {
    shared_by_two("broker_assigns", "consumer").await
}

async fn shared_by_two(name: &str, protocol: &str) -> Result<()> {
    let world = world(name).await?;
    let worker = || world.worker().env("GROUP_PROTOCOL", protocol).start();
    let (gateway, first) = tokio::try_join!(world.gateway().start(), worker())?;
    let second = worker().await?;
    each_owns_a_part([&first, &second]).await?;
    let settings = Settings {
        url: gateway.url("/upload_health_data"),
        serial_prefix: world.serial_prefix(),
        faulty_ratio: 0.05,
        rate: 250.0,
        duration: Duration::from_secs(4),
        ..Settings::default()
    };
    let report = fleet::run(&settings).await?;
    verdict::of(&world, &report.history, SOON).await?.into_result()?;
    for worker in [&first, &second] {
        ensure!(
            worker.metric("readings_total", "stored").await? > 0.0,
            "{} stored nothing",
            worker.name()
        );
    }
    finish(world, [gateway, second, first]).await
}

pub(super) async fn each_owns_a_part(workers: [&Service; 2]) -> Result<()> {
    eventually(SOON, "each owns a part", || async {
        let owned = [
            workers[0].metric("consumer_partitions_owned", "").await?,
            workers[1].metric("consumer_partitions_owned", "").await?,
        ];
        Ok((owned.iter().all(|owned| *owned >= 1.0)).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_release_is_rolled_forward_under_load_and_everything_stored_once() -> Result<()> {
    rolled("forward", &[last_release, this_version]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn this_version_is_rolled_back_under_load_and_everything_stored_once() -> Result<()> {
    rolled("back", &[this_version, last_release, this_version]).await
}

fn this_version(world: &World) -> Result<Launch> {
    Ok(world.worker())
}

fn last_release(world: &World) -> Result<Launch> {
    Ok(world.worker().program(last_release_of("worker")?))
}

/// Replaces a worker by one of the next version, again and again, under load. The tables are those of
/// this version from the start.
async fn rolled(name: &str, versions: &[fn(&World) -> Result<Launch>]) -> Result<()> {
    let world = world(name).await?;
    let [first, versions @ ..] = versions else { return Ok(()) };
    let first = first(&world)?;
    let (gateway, mut worker) = tokio::try_join!(world.gateway().start(), first.start())?;
    let fleet = Fleet::start(&Settings {
        url: gateway.url("/upload_health_data"),
        serial_prefix: world.serial_prefix(),
        devices: 400,
        rate: 200.0,
        duration: ROLLOUT_MAX,
        ..Settings::default()
    })
    .await?;
    for version in versions {
        let next = version(&world)?.start().await?;
        each_owns_a_part([&worker, &next]).await?;
        // Both versions merge and store in the same tables for a while.
        for beside in [&worker, &next] {
            let before = beside.metric("readings_total", "stored").await?;
            eventually(SOON, &format!("{} stores beside the other", beside.name()), || async {
                let stored = beside.metric("readings_total", "stored").await?;
                Ok((stored > before).then_some(()))
            })
            .await?;
        }
        ensure!(worker.terminate().await?.success(), "a worker failed");
        worker = next;
    }
    eventually(SOON, "the load was one", || async {
        let acknowledged = fleet.progress(|report| report.acknowledged);
        Ok((acknowledged >= ROLLOUT_READINGS).then_some(()))
    })
    .await?;
    fleet.stop();
    judge(&world, &fleet.finish().await?).await?;
    a_record_of_a_later_version_is_stored(&world).await?;
    // Workers of the last release do not keep this version's count of rows.
    ensure_holds(&world, &["--full"]).await?;
    finish(world, [gateway, worker]).await
}

async fn a_record_of_a_later_version_is_stored(world: &World) -> Result<()> {
    let device = world.device(999_999_999);
    let warning = json!({"field": "ppg", "code": "implausible", "raw": "", "confidence": 0.2});
    let record = json!({
        "device_sn": device, "timestamp": "2025-09-02 16:09:00", "epoch_ms": 1_756_800_540_000_i64,
        "received_at": 1_756_800_541_000_i64, "upload_method": "lora", "heart_rate": 80,
        "ppg": {"peaks": [1, 2]}, "warnings": [warning],
    });
    let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
    kafka::produce(brokers, topic, 0, record.to_string().as_bytes(), &[]).await?;
    settled(world).await?;
    ensure!(letters(world).await?.is_empty(), "a dead letter");
    let sql = format!(
        "SELECT heart_rate, upload_method FROM t_user_health_data WHERE device_sn = '{device}'"
    );
    let row = world.database.row(&sql).await?;
    ensure!(row == [Some("80".to_owned()), Some("wifi".to_owned())], "{row:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stretch_delivered_again_changes_no_value() -> Result<()> {
    let (world, gateway, worker) = pipeline("replay").await?;
    let settings = Settings {
        url: gateway.url("/upload_health_data"),
        serial_prefix: world.serial_prefix(),
        duration: Duration::from_secs(2),
        ..Settings::default()
    };
    let report = fleet::run(&settings).await?;
    verdict::of(&world, &report.history, SOON).await?.into_result()?;
    ensure!(worker.terminate().await?.success(), "the worker failed");
    let before = fingerprint(&world).await?;
    // Rewind the whole topic, as an operator does.
    world
        .database
        .execute(
            "UPDATE ingest_progress SET rewound = rewound + (next_offset - first_offset), \
             next_offset = first_offset",
        )
        .await?;
    let worker = world.worker().start().await?;
    settled(&world).await?;
    let after = fingerprint(&world).await?;
    ensure!(before == after, "{before:?} became {after:?}");
    let ledger = world.database.ledger(&world.worker_group).await?;
    ensure!(ledger.iter().all(|row| row.balances() && row.rewound > 0), "{ledger:?}");
    finish(world, [gateway, worker]).await
}

/// Returns all values of all rows, except the counts and the sources of their deliveries.
async fn fingerprint(world: &World) -> Result<Vec<Option<String>>> {
    let sql = "SELECT COUNT(*), SUM(CRC32(CONCAT_WS('|', device_sn, timestamp, id, user_id, org_id, \
               customer_id, heart_rate, blood_oxygen, temperature, pressure_high, pressure_low, stress, \
               step, distance, calorie, latitude, longitude, altitude, sleep, upload_method))), \
               (SELECT SUM(CRC32(CONCAT_WS('|', device_sn, date, exercise_daily_data, \
               exercise_daily_data_at))) FROM t_user_health_data_daily) FROM t_user_health_data";
    world.database.row(sql).await
}
