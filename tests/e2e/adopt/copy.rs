//! The copy of single tables: what is set aside, what is merged, and what ends or restarts a run.

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::mysql::Database;
use ljwx_tests::stack::accounts::Account;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};

use super::{adopt, adopted, adopted_rows, earlier, fill, old_prefix, readings, succeeded};
use crate::support::{SOON, ensure_holds, finish, send, settled};

const ARCHIVE: &str = "t_user_health_data_202506";

/// Counts the events of a database that run.
async fn running_events(old: &Database) -> Result<i64> {
    old.number(&format!(
        "SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{}' \
         AND STATUS = 'ENABLED'",
        old.name()
    ))
    .await
}

/// Returns the copied rows of all tables.
async fn copied(world: &World) -> Result<i64> {
    world.database.number("SELECT SUM(row_count) FROM adopt_progress").await
}

/// Creates an archive of an older form, in another character set, with rows that break the rules.
async fn fill_with_broken_rows(world: &World, old: &Database) -> Result<()> {
    for statement in [
        "CREATE TABLE t_user_health_data_202506 LIKE t_user_health_data",
        "ALTER TABLE t_user_health_data_202506 CONVERT TO CHARACTER SET utf8mb3",
        "ALTER TABLE t_user_health_data_202506 DROP COLUMN customer_id, MODIFY timestamp datetime NULL",
        "ALTER TABLE t_user_health_data CONVERT TO CHARACTER SET gbk",
        "CREATE VIEW every_month AS SELECT device_sn, timestamp FROM t_user_health_data_202506",
    ] {
        old.execute(statement).await?;
    }
    let (first, second) = (world.device(1), world.device(2));
    let lower = world.device(4).to_lowercase();
    for (table, values) in [
        (ARCHIVE, format!("'{first}', '2025-06-02 16:09:00', 80, 97")),
        (ARCHIVE, format!("'{first}', '2025-06-02 16:09:00', 81, NULL")),
        (ARCHIVE, format!("'{second}', '2025-06-02 16:10:00', 999, 96")),
        (ARCHIVE, "'no serial', '2025-06-02 16:09:00', 80, 97".to_owned()),
        (ARCHIVE, format!("'{second}', NULL, 80, 97")),
        ("t_user_health_data", format!("'{}', '2025-09-02 16:09:00', 70, 98", world.device(3))),
        ("t_user_health_data", format!("'{}', '2025-09-02 16:09:00', 71, 98", world.device(4))),
        ("t_user_health_data", format!("'{lower}', '2025-09-02 16:09:00', 72, 98")),
        ("t_user_health_data", format!("'{second}', '1999-12-31 23:59:59', 72, 98")),
    ] {
        let row = format!("INSERT INTO {table} (device_sn, timestamp, heart_rate, blood_oxygen)");
        old.execute(&format!("{row} VALUES ({values})")).await?;
    }
    // Without the key, a day may have several rows.
    old.execute("ALTER TABLE t_user_health_data_daily DROP KEY uk_device_date").await?;
    for number in [0, 1] {
        old.execute(&format!(
            "INSERT INTO t_user_health_data_daily (device_sn, date, sleep_data, exercise_daily_data, \
             create_time, update_time) VALUES ('{first}', '2025-06-02', \
             '{{\"code\": 0, \"data\": [{{\"a\": {number}}}]}}', 'null', NOW(), NOW())"
        ))
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_no_reading_can_be_are_set_aside_and_all_others_merge_by_the_live_rules()
-> Result<()> {
    let world = World::shared("aside").await?;
    let old = earlier(&world).await?;
    fill_with_broken_rows(&world, &old).await?;
    let unmigrated = adopt(&world, &old, &["plan"]).finish().await?;
    ensure!(unmigrated.code == Some(1), "{}", unmigrated.text);
    ensure!(unmigrated.text.contains("run `worker migrate` first"), "{}", unmigrated.text);
    world.migrate().await?;
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    // This device has a live reading of the same time already.
    send(&gateway, &world.device(3), "2025-09-02 16:09", &[90]).await?;
    settled(&world).await?;

    let plan = adopted(&world, &old, &["plan"]).await?;
    for said in [
        "t_user_health_data_202506",
        "a job outside of MySQL",
        "create_user",
        "gbk",
        "view every_month",
    ] {
        ensure!(plan.text.contains(said), "{said:?} is not in: {}", plan.text);
    }
    let done = adopted(&world, &old, &["run"]).await?;
    for said in [
        "t_user_health_data_202506: 1 rows, invalid_device_sn",
        "t_user_health_data_202506: 1 rows, missing_timestamp",
        "t_user_health_data_202506: 1 values of heart_rate, out_of_range",
        "t_user_health_data: 1 rows, timestamp_out_of_range",
    ] {
        ensure!(done.text.contains(said), "{said:?} is not in: {}", done.text);
    }
    let kept = world.database.count("adopt_set_aside WHERE content LIKE '%no serial%'").await?;
    ensure!(kept == 1, "the row that was set aside is not kept");
    let values =
        "SELECT heart_rate, blood_oxygen FROM t_user_health_data ORDER BY timestamp, heart_rate";
    let text = |value: &str| Some(value.to_owned());
    let expected = [
        [text("81"), text("97")],
        [None, text("96")],
        [text("71"), text("98")],
        [text("72"), text("98")],
        [text("90"), text("98")],
    ];
    let rows = world.database.rows(values).await?;
    ensure!(rows == expected, "{rows:?}");
    let day = "t_user_health_data_daily WHERE sleep_data_at = '2025-06-02 00:00:00' \
               AND sleep_data_source = 0 AND exercise_daily_data IS NULL";
    ensure!(world.database.count(day).await? == 1, "the document of the day");

    // A live delivery merges into an adopted row with a small id, and the audit still counts right.
    send(&gateway, &world.device(1), "2025-06-02 16:09", &[90]).await?;
    settled(&world).await?;
    ensure_holds(&world, &["--full"]).await?;
    let compared = adopted(&world, &old, &["compare"]).await?;
    ensure!(compared.text.contains("differ in case alone"), "{}", compared.text);

    let damage = format!(
        "UPDATE t_user_health_data SET blood_oxygen = NULL WHERE device_sn = '{}'",
        world.device(2)
    );
    world.database.execute(&damage).await?;
    let differs = adopt(&world, &old, &["compare"]).finish().await?;
    let named = format!("{} on 2025-06-02: 1 rows: blood_oxygen", world.device(2));
    ensure!(differs.code == Some(1) && differs.text.contains(&named), "{}", differs.text);
    adopted(&world, &old, &["run", "--again"]).await?;
    adopted(&world, &old, &["compare"]).await?;
    end(world, old, [gateway, worker]).await
}

/// Ends the services and removes both databases.
async fn end(world: World, old: Database, services: [Service; 2]) -> Result<()> {
    old.remove().await?;
    finish(world, services).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_is_refused_and_a_stopped_one_continues() -> Result<()> {
    let world = World::shared("twice").await?;
    let old = earlier(&world).await?;
    world.migrate().await?;
    fill(&world, &old, "t_user_health_data", "2025-09-01 00:00:00", 3_000).await?;
    let slow = adopt(&world, &old, &["run"]).env("ADOPT_ROWS_PER_SECOND", "100");
    let first = slow.spawn()?;
    eventually(SOON, "the first chunk is copied", || async {
        Ok((copied(&world).await? > 0).then_some(()))
    })
    .await?;
    let status = adopted(&world, &old, &["status", "--json"]).await?;
    let status: Value = serde_json::Deserializer::from_str(&status.text)
        .into_iter()
        .next()
        .transpose()?
        .context("no status")?;
    let main = &status["tables"][0];
    ensure!(main["source_table"] == "t_user_health_data", "{status:#}");
    ensure!(main["state"] == "copying" && main["row_count"] == 1_000, "{status:#}");
    let second = adopt(&world, &old, &["run"]).finish().await?;
    ensure!(second.code == Some(1), "{:?}: {}", second.code, second.text);
    ensure!(second.text.contains("another `worker adopt run` works"), "{}", second.text);

    ensure!(!first.terminate().await?.success(), "a run that was stopped has not succeeded");
    eventually(SOON, "the status shows that the copy is stopped", || async {
        let status = adopted(&world, &old, &["status"]).await?;
        Ok(status.text.contains("stopped").then_some(()))
    })
    .await?;
    let between = copied(&world).await?;
    adopted(&world, &old, &["run"]).await?;
    let rows = old.count("t_user_health_data").await?;
    ensure!(between < rows && copied(&world).await? == rows, "{between} of {rows}");
    let distinct = readings(&old, &["t_user_health_data"]).await?;
    ensure!(adopted_rows(&world.database).await? == distinct, "{distinct} readings");
    adopted(&world, &old, &["compare"]).await?;
    old.remove().await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_monthly_job_is_switched_off_and_one_outside_of_mysql_is_survived() -> Result<()> {
    let world = World::shared("monthly").await?;
    let old = earlier(&world).await?;
    world.migrate().await?;
    let rename = "RENAME TABLE t_user_health_data TO t_user_health_data_202508";
    // MySQL runs events by default, and one without a start at once.
    let next_month = "EVERY 1 MONTH STARTS CURRENT_TIMESTAMP + INTERVAL 1 MONTH";
    let event = format!("`{}`.monthly", old.name());
    // On MySQL, an event of the administrator needs an administrator.
    let mut definer = MySqlConnection::connect(&world.accounts.url(Account::Adopt)).await?;
    let create = format!("CREATE EVENT {event} ON SCHEDULE {next_month} DO {rename}");
    definer.execute(AssertSqlSafe(create)).await?;
    definer.close().await?;
    fill(&world, &old, "t_user_health_data", "2025-08-01 00:00:00", 2_000).await?;
    let plan = adopted(&world, &old, &["plan"]).await?;
    ensure!(plan.text.contains("switch off event monthly"), "{}", plan.text);
    ensure!(running_events(&old).await? == 1, "a plan changes nothing");
    adopted(&world, &old, &["run"]).await?;
    ensure!(running_events(&old).await? == 0, "the event still runs");

    // The new main table counts its ids from 1 on, and has one of the readings again.
    old.execute(rename).await?;
    old.execute("CREATE TABLE t_user_health_data LIKE t_user_health_data_202508").await?;
    fill(&world, &old, "t_user_health_data", "2025-08-20 00:00:00", 1_500).await?;
    let device = format!("{}000000", old_prefix(&world));
    old.execute(&format!(
        "INSERT INTO t_user_health_data (device_sn, timestamp, heart_rate) \
         VALUES ('{device}', '2025-08-01 00:00:00', 199)"
    ))
    .await?;
    let behind = adopt(&world, &old, &["compare"]).finish().await?;
    ensure!(behind.code == Some(1), "rows that are not copied: {}", behind.text);
    adopted(&world, &old, &["run"]).await?;
    adopted(&world, &old, &["compare"]).await?;
    let tables = ["t_user_health_data", "t_user_health_data_202508"];
    let distinct = readings(&old, &tables).await?;
    ensure!(adopted_rows(&world.database).await? == distinct, "{distinct} readings");
    let latest = format!(
        "SELECT heart_rate FROM t_user_health_data WHERE device_sn = '{device}' \
         AND timestamp = '2025-08-01 00:00:00'"
    );
    ensure!(world.database.number(&latest).await? == 199, "the later row wins");
    old.remove().await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_room_ends_the_run_which_continues_once_there_is_room() -> Result<()> {
    let world = World::shared("room").await?;
    let old = earlier(&world).await?;
    world.migrate().await?;
    fill(&world, &old, "t_user_health_data", "2025-09-01 00:00:00", 3_000).await?;
    let device = format!("{}000199", old_prefix(&world));
    // The first chunk has room, and a later one has none.
    world
        .database
        .execute(&format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON t_user_health_data FOR EACH ROW \
             IF NEW.device_sn = '{device}' AND NEW.timestamp > '2025-09-01 00:01:30' THEN \
             SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'said 1114'; END IF"
        ))
        .await?;
    let full = adopt(&world, &old, &["run"]).finish().await?;
    ensure!(full.code == Some(1), "{:?}: {}", full.code, full.text);
    for said in ["said 1114", "make room on the server", "continues where it has stopped"] {
        ensure!(full.text.contains(said), "{said:?} is not in: {}", full.text);
    }
    let before = copied(&world).await?;
    ensure!(before > 0, "nothing was copied");
    world.database.execute("DROP TRIGGER refuse").await?;
    succeeded(adopt(&world, &old, &["run"]).finish().await?)?;
    ensure!(copied(&world).await? == old.count("t_user_health_data").await?, "rows are missing");
    adopted(&world, &old, &["compare"]).await?;
    // A table of this system that is missing is no work of the monthly job.
    world.database.execute("RENAME TABLE t_user_health_data TO renamed").await?;
    let missing = adopt(&world, &old, &["run"]).finish().await?;
    ensure!(missing.code == Some(1), "{:?}: {}", missing.code, missing.text);
    ensure!(missing.text.contains("`worker migrate`"), "{}", missing.text);
    old.remove().await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_mysql_rejects_are_set_aside_and_the_others_of_their_chunk_are_copied()
-> Result<()> {
    let world = World::shared("rejected").await?;
    let old = earlier(&world).await?;
    world.migrate().await?;
    let rejected = world.device(2);
    for device in [&world.device(1), &rejected] {
        old.execute(&format!(
            "INSERT INTO t_user_health_data (device_sn, timestamp, heart_rate, blood_oxygen) VALUES \
             ('{device}', '2025-09-02 16:09:00', 80, NULL), \
             ('{device}', '2025-09-02 16:09:00', NULL, 97)"
        ))
        .await?;
        old.execute(&format!(
            "INSERT INTO t_user_health_data_daily (device_sn, date, sleep_data, create_time, \
             update_time) VALUES ('{device}', '2025-09-02', \
             '{{\"code\": 0, \"data\": [{{\"a\": 1}}]}}', NOW(), NOW())"
        ))
        .await?;
    }
    for table in ["t_user_health_data", "t_user_health_data_daily"] {
        world
            .database
            .execute(&format!(
                "CREATE TRIGGER refuse_{table} BEFORE INSERT ON {table} FOR EACH ROW \
                 IF NEW.device_sn = '{rejected}' THEN SIGNAL SQLSTATE '22001' \
                 SET MYSQL_ERRNO = 1406, MESSAGE_TEXT = 'said 1406'; END IF"
            ))
            .await?;
    }
    let done = adopted(&world, &old, &["run"]).await?;
    for said in [
        "t_user_health_data: 2 rows, rejected_by_mysql",
        "t_user_health_data_daily: 1 rows, rejected_by_mysql",
    ] {
        ensure!(done.text.contains(said), "{said:?} is not in: {}", done.text);
    }
    ensure!(adopted_rows(&world.database).await? == 1, "the readings of the other device");
    ensure!(world.database.count("t_user_health_data_daily").await? == 1, "its document");
    adopted(&world, &old, &["compare"]).await?;
    old.remove().await?;
    world.finish().await
}
