//! A large database, adopted under live load, by runs that are killed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::clients::mysql::Database;
use ljwx_tests::fleet::{Fleet, Settings};
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;

use super::{adopt, adopted_rows, earlier, fill, old_prefix, readings, succeeded};
use crate::support::{ensure_holds, finish, settled};

/// The old tables of readings.
const TABLES: [&str; 3] =
    ["t_user_health_data", "t_user_health_data_202506", "t_user_health_data_202507"];

/// Readings of each table. A twentieth of them is there twice.
const ROWS: usize = 100_000;

/// End of the serial number, and time, of a reading at the end of an archive that the watch has sent again
/// after the monthly job. No other row of the archive repeats it.
const SENT_AGAIN: (&str, &str) = ("000007", "2025-07-01 02:04:45");

/// The heart rate of the later row.
const LATER_RATE: i64 = 199;

/// Longest time until a part of the rows is copied.
const COPIED_WITHIN: Duration = Duration::from_secs(120);

/// Time between two rows that the earlier server still writes.
const WRITE_INTERVAL: Duration = Duration::from_millis(50);

/// Length and rate of the live load.
const LOAD: Duration = Duration::from_secs(20);
const RATE: f64 = 100.0;

/// Writes rows to the old main table until `done`, as the earlier server does beside this system.
async fn write_on(old: &Database, device: &str, done: &AtomicBool) -> Result<()> {
    let mut second = 0;
    while !done.load(Ordering::Relaxed) {
        old.execute(&format!(
            "INSERT INTO t_user_health_data (device_sn, timestamp, heart_rate) \
             VALUES ('{device}', '2025-08-30 00:00:00' + INTERVAL {second} SECOND, 80)"
        ))
        .await?;
        second += 1;
        pass(WRITE_INTERVAL).await;
    }
    Ok(())
}

/// Adds the later row of the reading that is sent again. It is the first of the main table, far from the
/// rows that every run copies again.
async fn send_again(world: &World, old: &Database) -> Result<()> {
    let (device, at) = SENT_AGAIN;
    old.execute(&format!(
        "INSERT INTO t_user_health_data (device_sn, timestamp, heart_rate) \
         VALUES ('{}{device}', '{at}', {LATER_RATE})",
        old_prefix(world)
    ))
    .await
}

async fn load(world: &World, gateway: &Service) -> Result<()> {
    let settings = Settings {
        url: gateway.url("/upload_health_data"),
        serial_prefix: world.serial_prefix(),
        devices: 200,
        rate: RATE,
        duration: LOAD,
        ..Settings::default()
    };
    let report = Fleet::start(&settings).await?.finish().await?;
    ensure!(report.acknowledged > 500, "hardly anything was acknowledged:\n{report}");
    Ok(())
}

/// Runs the adoption until a part of the rows is copied, and kills it. Twice, then to its end.
async fn run_with_kills(world: &World, old: &Database) -> Result<()> {
    for part in [ROWS / 2, 2 * ROWS] {
        let run = adopt(world, old, &["run"]).spawn()?;
        eventually(COPIED_WITHIN, &format!("{part} rows are copied"), || async {
            let copied = world.database.number("SELECT SUM(row_count) FROM adopt_progress").await?;
            ensure!(copied >= i64::try_from(part)?, "{copied} are");
            Ok(Some(()))
        })
        .await?;
        run.kill().await?;
    }
    succeeded(adopt(world, old, &["run"]).finish_within(COPIED_WITHIN).await?)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_database_is_adopted_under_load_by_a_run_that_is_killed_twice() -> Result<()> {
    let world = World::shared("adopt").await?;
    let old = earlier(&world).await?;
    for table in &TABLES[1..] {
        old.execute(&format!("CREATE TABLE {table} LIKE t_user_health_data")).await?;
    }
    send_again(&world, &old).await?;
    for (table, from) in TABLES.into_iter().zip([
        "2025-08-01 00:00:00",
        "2025-06-01 00:00:00",
        "2025-07-01 00:00:00",
    ]) {
        fill(&world, &old, table, from, ROWS).await?;
    }
    world.migrate().await?;
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), world.worker().start())?;

    let done = AtomicBool::new(false);
    let device = format!("{}W", old_prefix(&world));
    let steps = async {
        let copied = tokio::try_join!(load(&world, &gateway), run_with_kills(&world, &old));
        done.store(true, Ordering::Relaxed);
        copied
    };
    let (written, copied) = tokio::join!(write_on(&old, &device, &done), steps);
    copied?;
    written?;

    // The earlier server is stopped, and a last run copies its last rows.
    succeeded(adopt(&world, &old, &["run"]).finish_within(COPIED_WITHIN).await?)?;
    succeeded(adopt(&world, &old, &["compare"]).finish_within(COPIED_WITHIN).await?)?;
    settled(&world).await?;
    ensure_holds(&world, &["--full"]).await?;
    let (rows, distinct) = (adopted_rows(&world.database).await?, readings(&old, &TABLES).await?);
    ensure!(rows == distinct && rows >= 3 * ROWS as i64, "{rows} rows of {distinct} readings");
    ensure_merged(&world, &old).await?;
    old.remove().await?;
    finish(world, [gateway, worker]).await
}

/// Ensures by the servers' own means that readings that are there twice are merged: the later row's step
/// and the earlier row's blood oxygen.
async fn ensure_merged(world: &World, old: &Database) -> Result<()> {
    for table in TABLES {
        let (ours, theirs) = (world.database.name(), old.name());
        let joined = format!(
            "FROM `{theirs}`.{table} AS later JOIN `{ours}`.t_user_health_data AS adopted \
             ON adopted.device_sn = CONVERT(later.device_sn USING ascii) COLLATE ascii_bin \
             AND adopted.timestamp = later.timestamp \
             WHERE later.upload_method = 'bluetooth'"
        );
        let twice = world.database.number(&format!("SELECT COUNT(*) {joined}")).await?;
        let wrong = world
            .database
            .number(&format!(
                "SELECT COUNT(*) {joined} AND NOT (adopted.step <=> later.step \
                 AND adopted.upload_method <=> later.upload_method AND adopted.blood_oxygen IS NOT NULL)"
            ))
            .await?;
        ensure!(twice >= ROWS as i64 / 25 && wrong == 0, "{table}: {wrong} of {twice} are wrong");
    }
    let (device, at) = SENT_AGAIN;
    let rate = world
        .database
        .number(&format!(
            "SELECT heart_rate FROM t_user_health_data WHERE device_sn = '{}{device}' \
             AND timestamp = '{at}'",
            old_prefix(world)
        ))
        .await?;
    ensure!(rate == LATER_RATE, "{rate}: a row of an archive has replaced a later one");
    Ok(())
}
