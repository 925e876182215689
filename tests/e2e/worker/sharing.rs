//! Work that workers share, and work that is repeated.

use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::accounting::verdict;
use ljwx_tests::fleet::{self, Settings};
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;

use crate::support::{SOON, finish, pipeline, settled};

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_the_partitions_and_store_everything_once() -> Result<()> {
    shared_by_two("share", "classic").await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_as_well_where_the_broker_assigns() -> Result<()> {
    shared_by_two("broker_assigns", "consumer").await
}

async fn shared_by_two(name: &str, protocol: &str) -> Result<()> {
    let world = World::shared(name).await?;
    world.migrate().await?;
    let worker = || world.worker().env("GROUP_PROTOCOL", protocol).start();
    let (gateway, first) = tokio::try_join!(world.gateway().start(), worker())?;
    let second = worker().await?;
    eventually(SOON, "each owns a part", || async {
        let owned = [
            first.metric("consumer_partitions_owned", "").await?,
            second.metric("consumer_partitions_owned", "").await?,
        ];
        Ok((owned.iter().all(|owned| *owned >= 1.0)).then_some(()))
    })
    .await?;
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
    second.terminate().await?;
    finish(world, [gateway, first]).await
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
    worker.terminate().await?;
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
