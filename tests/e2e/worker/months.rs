//! The months of the main table: added beside transactions that read it, and counted after their
//! retention.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::clients::mysql::Database;
use ljwx_tests::stack::accounts::Account;
use ljwx_tests::stack::moved_clock::MovedClock;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::TIME_ZONE;

use crate::support::{AT, SOON, audit, ensure_holds, finish, pipeline, send, settled, used, world};

/// The longest that a month may take. The worker's pauses between attempts grow to a minute.
const ADDED_WITHIN: Duration = Duration::from_secs(90);

/// Counts the months of the main table.
const MONTHS: &str = "SELECT COUNT(*) FROM information_schema.PARTITIONS \
                      WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 't_user_health_data'";

/// Counts the tables of expired months whose rows are not counted yet.
const UNCOUNTED: &str = "SELECT COUNT(*) FROM information_schema.TABLES \
                         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE '%\\_expired\\_%'";

/// Whether no worker maintains the months now.
const IDLE: &str = "SELECT IS_FREE_LOCK(CONCAT('ljwx_months_', LEFT(SHA2(DATABASE(), 256), 40)))";

/// Drops the last month, so that a worker has one to add. Returns how many months there were.
async fn drop_last_month(database: &Database) -> Result<i64> {
    let all = database.number(MONTHS).await?;
    let last = "SELECT MAX(PARTITION_NAME) FROM information_schema.PARTITIONS \
                WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 't_user_health_data' \
                AND PARTITION_NAME <> 'p_future'";
    let last = database.row(last).await?.into_iter().next().flatten().context("no month")?;
    database.execute(&format!("ALTER TABLE t_user_health_data DROP PARTITION {last}")).await?;
    Ok(all)
}

/// Waits until the main table has this many months.
async fn has_months(database: &Database, months: i64) -> Result<()> {
    eventually(ADDED_WITHIN, "the month is there", || async {
        Ok((database.number(MONTHS).await? == months).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_readers_transaction_stops_no_reading_and_delays_only_the_month() -> Result<()> {
    let (world, gateway, worker) = pipeline("months").await?;
    ensure!(worker.terminate().await?.success(), "the worker failed");
    let all = drop_last_month(&world.database).await?;

    // A transaction that has read a table keeps its definition until the transaction ends.
    let reader = world.database.open_read("t_user_health_data").await?;
    let mut worker = world.worker().start().await?;
    for minute in 1..=2 {
        eventually(SOON, "the month waits for the reader", || async {
            Ok(worker.output().contains("cannot maintain monthly partitions").then_some(()))
        })
        .await?;
        // Send several rounds, so that some coincide with an attempt to add the month.
        for second in 10..20 {
            let at = format!("2025-09-02 {second}:{minute:02}");
            send(&gateway, &world.device(1), &at, &[80]).await?;
            settled(&world).await?;
        }
        if minute == 1 {
            // The waiting month does not keep a worker from stopping.
            ensure!(worker.terminate().await?.success(), "the worker failed");
            worker = world.worker().start().await?;
        }
    }
    ensure!(
        world.database.number(MONTHS).await? == all - 1,
        "the reader did not hold the month up"
    );
    reader.release().await?;
    has_months(&world.database, all).await?;
    eventually(SOON, "the worker is healthy", || async {
        let health = http::get(&worker.admin("/api/batch_processor/health")).await?;
        ensure!(health.json["status"] == "healthy", "{}", health.text);
        Ok(Some(()))
    })
    .await?;
    ensure_holds(&world, &[]).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_may_not_add_months_names_the_right_and_stores() -> Result<()> {
    let world = world("noddl").await?;
    let all = drop_last_month(&world.database).await?;
    let rows_only = world.accounts.url(Account::Worker);
    let worker = world.worker().env("MAINTENANCE_MYSQL_URL", rows_only);
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), worker.start())?;
    eventually(SOON, "the log names right and setting", || async {
        let output = worker.output();
        let mut lines = output.lines();
        let line = lines.find(|line| line.contains("cannot maintain monthly partitions"));
        Ok(line.filter(|line| line.contains("ALTER") && line.contains("MYSQL_URL")).map(drop))
    })
    .await?;
    send(&gateway, &world.device(1), AT, &[80]).await?;
    settled(&world).await?;
    ensure!(world.database.number(MONTHS).await? == all - 1, "an account without the right");
    ensure!(worker.terminate().await?.success(), "the worker failed");
    let worker = world.worker().start().await?;
    has_months(&world.database, all).await?;
    ensure_holds(&world, &[]).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_dropped_past_the_retention_stays_accounted_for() -> Result<()> {
    let (world, gateway, worker) = used("months").await?;
    let today = jiff::Timestamp::now().in_tz(TIME_ZONE)?.date();
    send(&gateway, &world.device(1), &format!("{today} 00:00"), &[80, 81]).await?;
    settled(&world).await?;
    let before = audit(&world, &[]).await?;
    ensure!(before.0 == Some(0), "{before:?}");
    ensure!(worker.terminate().await?.success(), "the worker stops");
    // As a worker leaves it that is killed before it has counted the month's rows.
    let month = "SELECT CAST(PARTITION_NAME AS CHAR) FROM information_schema.PARTITIONS \
                 WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 't_user_health_data' \
                 ORDER BY PARTITION_ORDINAL_POSITION LIMIT 1";
    let month = world.database.row(month).await?.into_iter().next().flatten().context("a month")?;
    let moved = format!("t_user_health_data_expired_{month}_1764480000");
    for statement in [
        format!("CREATE TABLE {moved} LIKE t_user_health_data"),
        format!("ALTER TABLE {moved} REMOVE PARTITIONING"),
        format!("ALTER TABLE t_user_health_data EXCHANGE PARTITION {month} WITH TABLE {moved}"),
        format!("ALTER TABLE t_user_health_data DROP PARTITION {month}"),
    ] {
        world.database.execute(&statement).await?;
    }
    ensure!(world.database.count(&moved).await? > 0, "{month} holds the rows of the past");
    let halfway = audit(&world, &["--full"]).await?;
    ensure!(halfway.0 == Some(0), "{halfway:?}");
    let worker = world.worker().env("RETENTION_DAYS", "0").start().await?;
    eventually(SOON, "the old months are gone", || async {
        let waiting = world.database.number(UNCOUNTED).await?;
        let rows = world.database.count("t_user_health_data").await?;
        Ok((rows == 2 && waiting == 0).then_some(()))
    })
    .await?;
    for arguments in [&[][..], &["--full"]] {
        let after = audit(&world, arguments).await?;
        ensure!(after.0 == Some(0), "{after:?}");
        ensure!(after.1["totals"]["rows"] == before.1["totals"]["rows"], "{after:?}");
    }
    world.database.execute("DELETE FROM t_user_health_data LIMIT 1").await?;
    let (code, report) = audit(&world, &["--full"]).await?;
    ensure!(code == Some(1), "a row that was deleted is missed all the same: {report}");
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_are_stored_while_an_expired_month_is_counted() -> Result<()> {
    let (world, gateway, worker) = pipeline("counting").await?;
    send(&gateway, &world.device(1), AT, &[80, 81]).await?;
    settled(&world).await?;
    ensure!(worker.terminate().await?.success(), "the worker stops");
    // No count can be stored until the lock is released.
    let lock = world.database.lock("ingest_dropped_month").await?;
    let worker = world.worker().env("RETENTION_DAYS", "0").start().await?;
    eventually(SOON, "the rows of the month have left the main table", || async {
        Ok((world.database.count("t_user_health_data").await? == 0).then_some(()))
    })
    .await?;
    let today = jiff::Timestamp::now().in_tz(TIME_ZONE)?.date();
    send(&gateway, &world.device(1), &format!("{today} 00:00"), &[82]).await?;
    settled(&world).await?;
    ensure!(
        world.database.number(UNCOUNTED).await? == 1,
        "the count was stored in spite of the lock"
    );
    lock.release().await?;
    eventually(SOON, "the rows of the month are counted", || async {
        Ok((world.database.number(UNCOUNTED).await? == 0).then_some(()))
    })
    .await?;
    ensure!(world.database.count("t_user_health_data").await? == 1, "the reading of today");
    ensure_holds(&world, &["--full"]).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ahead_drops_no_month_before_its_retention() -> Result<()> {
    let (world, gateway, worker) = pipeline("monthsahead").await?;
    let today = jiff::Timestamp::now().in_tz(TIME_ZONE)?.date();
    send(&gateway, &world.device(1), AT, &[80, 81]).await?;
    send(&gateway, &world.device(1), &format!("{today} 00:00"), &[82]).await?;
    settled(&world).await?;
    ensure!(worker.terminate().await?.success(), "the worker stops");
    let clock = MovedClock::create(&world.logs.join("clock")).await?;
    clock.set(100 * 24 * 3600)?;
    let worker = clock.of(world.worker()).env("RETENTION_DAYS", "0").start().await?;
    eventually(SOON, "the month past the retention is gone", || async {
        let rows = world.database.count("t_user_health_data").await?;
        let idle = world.database.number(IDLE).await? == 1;
        Ok((rows < 3 && idle).then_some(()))
    })
    .await?;
    let rows = world.database.count("t_user_health_data").await?;
    ensure!(rows == 1, "{rows} rows: that of today is there");
    ensure_holds(&world, &[]).await?;
    finish(world, [gateway, worker]).await
}
