//! Tables: the platform's tables that existed before in the same database, the retention of documents, and
//! the accounts that may not change tables.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use ljwx_ledger::mysql::errors;
use ljwx_tests::clients::mysql::Database;
use ljwx_tests::stack::accounts::Account;
use ljwx_tests::stack::launch::Finished;
use ljwx_tests::stack::moved_clock::MovedClock;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use sqlx::{Connection, Executor, MySqlConnection};

use crate::support::{AT, SOON, ensure_holds, finish, pipeline, send, settled};

/// The platform's tables that existed before.
const ORIGINAL: &str = include_str!("../../src/fakes/original.sql");

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
             update_time) VALUES ('{first}', '2025-09-02', \
             '{{\"code\": 0, \"data\": [{{\"a\": 1}}]}}', NOW(), NOW())"
        ))
        .await?;
    Ok(())
}

/// Runs a `worker adopt` on the tables that were put aside, and returns its exit code and output.
async fn adopt(world: &World, action: &str) -> Result<Finished> {
    world.launch("worker", &["adopt", action]).finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_database_is_refused_untouched_and_taken_once_it_was_done_as_told() -> Result<()>
{
    // The first record of partition 0 has the source that other writers' rows have, and is later.
    let world = World::shared("existing").await?.with_partitions(1);
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
    let advice = refused.text.match_indices("RENAME TABLE ");
    let advice: Vec<&str> =
        advice.filter_map(|(at, _)| refused.text[at..].split_inclusive(';').next()).collect();
    ensure!(advice.len() == 3, "{advice:?}: {}", refused.text);
    run_all(database, &advice.concat()).await?;

    world.migrate().await?;
    for action in ["plan", "run", "compare"] {
        let done = adopt(&world, action).await?;
        ensure!(done.code == Some(0), "{action}: {:?}: {}", done.code, done.text);
    }
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

    // A table that was renamed after it was recorded as ours is created again, and named.
    ensure!(worker.terminate().await?.success(), "the worker failed");
    database.execute("RENAME TABLE t_user_health_data TO t_user_health_data_202509").await?;
    world.migrate().await?;
    ensure!(database.count("t_user_health_data").await? == 0, "the table is not there");
    let plan = adopt(&world, "plan").await?;
    let named =
        "t_user_health_data_202509 is a table of this system: the monthly job has renamed it";
    ensure!(plan.code == Some(1) && plan.text.contains(named), "{:?}: {}", plan.code, plan.text);
    finish(world, [gateway]).await
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
    let advice = "Run `worker migrate` in a new database";
    ensure!(refused.text.contains(advice), "{advice:?} is not in: {}", refused.text);
    ensure!(made(database).await? == before, "something was altered: {}", refused.text);
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_that_were_interrupted_are_repeated() -> Result<()> {
    let world = World::shared("interrupted").await?;
    let database = &world.database;
    world.migrate().await?;
    let before = made(database).await?;
    // As if each had been killed behind its last statement.
    database.execute("UPDATE _sqlx_migrations SET success = FALSE").await?;
    world.migrate().await?;
    ensure!(made(database).await? == before, "something was altered");
    ensure!(database.count("_sqlx_migrations WHERE success").await? > 10, "not all are recorded");
    ensure!(database.count("_sqlx_migrations WHERE NOT success").await? == 0, "some are not");
    world.finish().await
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
    finish(world, [worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_stay_that_are_too_old_by_one_clock_alone() -> Result<()> {
    let world = World::shared("documentclock").await?;
    let database = &world.database;
    world.migrate().await?;
    let tables =
        [("t_user_health_data_daily", "date"), ("t_user_health_data_weekly", "week_start")];
    for (table, column) in tables {
        database
            .execute(&format!(
                "INSERT INTO {table} (device_sn, {column}) VALUES \
                 ('D1', CURRENT_DATE - INTERVAL 400 DAY), ('D1', CURRENT_DATE - INTERVAL 150 DAY)"
            ))
            .await?;
    }
    let clock = MovedClock::create(&world.logs.join("clock")).await?;
    clock.set(-200 * 24 * 3600)?;
    let worker = clock
        .of(world.worker())
        .env("DAILY_RETENTION_DAYS", "100")
        .env("WEEKLY_RETENTION_DAYS", "100")
        .start()
        .await?;
    for documents in ["daily documents", "weekly documents"] {
        eventually(SOON, &format!("old {documents} are removed"), || async {
            let output = worker.output();
            let mut removals = output.lines().filter(|line| line.contains("old rows removed"));
            Ok(removals.any(|line| line.contains(documents)).then_some(()))
        })
        .await?;
    }
    for (table, _) in tables {
        ensure!(database.count(table).await? == 1, "{table}: the younger row is there");
    }
    finish(world, [worker]).await
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
