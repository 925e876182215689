//! Tables: the platform's tables that existed before, the months of the main table while a
//! transaction reads it and after their retention, and the accounts that may change tables.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use ljwx_ledger::mysql::errors;
use ljwx_tests::clients::http;
use ljwx_tests::clients::mysql::Database;
use ljwx_tests::stack::accounts::Account;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::{TIME_ZONE, World};
use sqlx::{Connection, Executor, MySqlConnection};

use crate::support::{AT, SOON, audit, ensure_holds, finish, pipeline, send, settled, used};

/// The platform's tables that existed before.
const ORIGINAL: &str = include_str!("../../src/fakes/original.sql");

/// Operators' instructions. The tests run the statements in them.
const OPERATIONS: &str = include_str!("../../../docs/data.md");

/// Counts the months of the main table.
const MONTHS: &str = "SELECT COUNT(*) FROM information_schema.PARTITIONS \
                      WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 't_user_health_data'";

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
    eventually(SOON, "the month is there", || async {
        Ok((database.number(MONTHS).await? == months).then_some(()))
    })
    .await
}

/// Returns every table with its CREATE statement.
async fn made(database: &Database) -> Result<BTreeMap<String, String>> {
    let mut tables = BTreeMap::new();
    for row in database.rows("SHOW TABLES").await? {
        let name = row.into_iter().next().flatten().context("a table without a name")?;
        let row = database.row(&format!("SHOW CREATE TABLE {name}")).await?;
        tables.insert(name, row.into_iter().nth(1).flatten().unwrap_or_default());
    }
    Ok(tables)
}

async fn run_all(database: &Database, statements: &str) -> Result<()> {
    let statements = statements.split(';').map(str::trim).filter(|sql| !sql.is_empty());
    for statement in statements {
        database.execute(statement).await?;
    }
    Ok(())
}

/// Creates the platform's tables with rows of two devices.
async fn fill_original(database: &Database, first: &str, second: &str) -> Result<()> {
    run_all(database, ORIGINAL).await?;
    for values in [
        // The same time twice, as a watch sends it: the original table keeps both rows.
        format!("'{first}', '2025-09-02 16:09:00', 80, NULL, 'wifi', 7"),
        format!("'{first}', '2025-09-02 16:09:00', 81, NULL, 'wifi', 7"),
        format!("'{second}', '2025-09-02 16:09:00', NULL, 97, 'bluetooth', 0"),
    ] {
        let row = "INSERT INTO t_user_health_data (device_sn, timestamp, heart_rate, blood_oxygen, \
                   upload_method, customer_id) VALUES";
        database.execute(&format!("{row} ({values})")).await?;
    }
    database
        .execute(&format!(
            "INSERT INTO t_user_health_data_daily (device_sn, date, sleep_data, create_time, \
             update_time) VALUES ('{first}', '2025-09-02', '{{\"code\": 0}}', NOW(), NOW())"
        ))
        .await?;
    Ok(())
}

/// Returns the statements by which the instructions carry rows over.
fn carrying_over() -> Result<&'static str> {
    let section = OPERATIONS.split("## An existing database").nth(1).context("the section")?;
    let block = section.split("```sql").nth(1).context("the statements")?;
    block.split("```").next().context("their end")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_database_is_refused_untouched_and_taken_once_it_was_done_as_told() -> Result<()>
{
    let world = World::shared("existing").await?;
    let database = &world.database;
    let (first, second) = (world.device(1), world.device(2));
    fill_original(database, &first, &second).await?;
    let before = made(database).await?;

    let refused = world.launch("worker", &["migrate"]).finish().await?;
    ensure!(refused.code == Some(1), "{:?}: {}", refused.code, refused.text);
    ensure!(made(database).await? == before, "something was altered: {}", refused.text);
    for said in [
        "its primary key is (id), not (device_sn, timestamp)",
        "its primary key is (id), not (device_sn, date)",
        "its primary key is (id), not (device_sn, week_start)",
        "it lacks the columns deliveries, last_source",
        "it lacks the columns customer_id, sleep_data_at",
        "it wants a value for create_time, update_time",
        "device_sn is varchar(255)",
        "upload_method does not take esim",
        "it is not partitioned by month",
        "nothing was changed",
    ] {
        ensure!(refused.text.contains(said), "{said:?} is not in: {}", refused.text);
    }
    let told = refused.text.match_indices("RENAME TABLE ");
    let told: Vec<&str> =
        told.filter_map(|(at, _)| refused.text[at..].split_inclusive(';').next()).collect();
    ensure!(told.len() == 3, "{told:?}: {}", refused.text);
    run_all(database, &told.concat()).await?;

    world.migrate().await?;
    run_all(database, carrying_over()?).await?;
    let rows = database
        .rows("SELECT device_sn, heart_rate, blood_oxygen, id > 1960000000000000000 FROM t_user_health_data ORDER BY device_sn")
        .await?;
    let text = |value: &str| Some(value.to_owned());
    let expected = [
        vec![text(&first), text("81"), None, text("1")],
        vec![text(&second), None, text("97"), text("1")],
    ];
    ensure!(rows == expected, "{rows:?}");
    ensure!(database.count("t_user_health_data_daily WHERE sleep_data_at IS NOT NULL").await? == 1);

    // Readings continue where the old rows end: one merges, one is new.
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    send(&gateway, &first, "2025-09-02 16:09", &[90, 91]).await?;
    settled(&world).await?;
    let rates =
        format!("SELECT SUM(heart_rate) FROM t_user_health_data WHERE device_sn = '{first}'");
    ensure!(database.number(&rates).await? == 90 + 91, "{}", database.number(&rates).await?);
    ensure_holds(&world, &[]).await?;

    // A table that was renamed after it was recorded as ours is created again.
    ensure!(worker.terminate().await?.success(), "the worker failed");
    database.execute("RENAME TABLE t_user_health_data TO t_user_health_data_202509").await?;
    world.migrate().await?;
    ensure!(database.count("t_user_health_data").await? == 0, "the table is not there");
    ensure!(gateway.terminate().await?.success(), "the gateway failed");
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_replaced_files_is_refused_untouched() -> Result<()> {
    let world = World::shared("replaced").await?;
    let database = &world.database;
    world.migrate().await?;
    database
        .execute("UPDATE _sqlx_migrations SET description = 'user health data' WHERE version = 1")
        .await?;
    let before = made(database).await?;

    let refused = world.launch("worker", &["migrate"]).finish().await?;
    ensure!(refused.code == Some(1), "{:?}: {}", refused.code, refused.text);
    let told = "Run `worker migrate` in a new database";
    ensure!(refused.text.contains(told), "{told:?} is not in: {}", refused.text);
    ensure!(made(database).await? == before, "something was altered: {}", refused.text);
    world.finish().await
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
    let health = http::get(&worker.admin("/api/batch_processor/health")).await?;
    ensure!(health.json["status"] == "healthy", "{}", health.text);
    ensure_holds(&world, &[]).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn daily_and_weekly_documents_past_their_retention_are_removed() -> Result<()> {
    let world = World::shared("documents").await?;
    let database = &world.database;
    world.migrate().await?;
    // More of one day than one statement removes.
    for (table, column, old) in [
        ("t_user_health_data_daily", "date", 101),
        ("t_user_health_data_weekly", "week_start", 107),
    ] {
        let dated =
            |number: usize, days: i32| format!("('D{number}', CURRENT_DATE - INTERVAL {days} DAY)");
        let mut rows: Vec<String> = (0..1_500).map(|number| dated(number, old)).collect();
        rows.extend([dated(0, old + 1), dated(0, old - 2), dated(1, 0)]);
        let rows = rows.join(", ");
        database
            .execute(&format!("INSERT INTO {table} (device_sn, {column}) VALUES {rows}"))
            .await?;
    }
    let worker = world
        .worker()
        .env("DAILY_RETENTION_DAYS", "100")
        .env("WEEKLY_RETENTION_DAYS", "100")
        .start()
        .await?;
    for table in ["t_user_health_data_daily", "t_user_health_data_weekly"] {
        eventually(SOON, &format!("two rows are left in {table}"), || async {
            let left = database.count(table).await?;
            ensure!(left == 2, "{left} are");
            Ok(Some(()))
        })
        .await?;
    }
    ensure!(worker.terminate().await?.success(), "the worker failed");
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn run_accounts_need_no_ddl() -> Result<()> {
    let (world, gateway, worker) = pipeline("rights").await?;
    send(&gateway, &world.device(1), AT, &[80, 81]).await?;
    settled(&world).await?;
    for account in [Account::Worker, Account::Alerter] {
        let mut session = MySqlConnection::connect(&world.accounts.url(account)).await?;
        for statement in [
            "CREATE TABLE more (n INT PRIMARY KEY)",
            "ALTER TABLE ingest_progress ADD COLUMN more INT",
            "ALTER TABLE t_user_health_data DROP PARTITION p_future",
            "TRUNCATE TABLE ingest_progress",
            "DROP TABLE ingest_progress",
        ] {
            let refused = session.execute(statement).await.err();
            let refused = refused.with_context(|| format!("{account:?} may {statement}"))?;
            ensure!(errors::lacks_right(&refused), "{account:?}, {statement}: {refused}");
        }
        session.close().await?;
    }
    ensure_holds(&world, &[]).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_may_not_add_months_names_the_right_and_stores() -> Result<()> {
    let world = World::shared("noddl").await?;
    world.migrate().await?;
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
        let tables = "SELECT COUNT(*) FROM information_schema.TABLES \
                      WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE '%\\_expired\\_%'";
        let waiting = world.database.number(tables).await?;
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
