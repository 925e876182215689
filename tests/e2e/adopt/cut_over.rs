//! The cut-over: the tables of this system take the place of the old ones while readers read, and go back.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::mysql::Database;
use ljwx_tests::repo::markdown;
use ljwx_tests::stack::launch::Launch;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;

use super::{adopt, adopted, earlier, fill, old_prefix, succeeded};
use crate::support::{CAUGHT_UP_WITHIN, SOON, send, settled};

const ARCHIVE: &str = "t_user_health_data_202506";

/// The document with the statements of the way back.
const DOCUMENT: &str = include_str!("../../../docs/migration.md");

/// The databases and the time in these statements.
const EXAMPLES: [&str; 3] = ["ljwx_platform.", "ljwx.", "2025-12-01 12:00:00"];

/// Reads the same old row until `done`: it is there at every moment.
async fn read_on(old: &Database, row: &str, done: &AtomicBool) -> Result<u64> {
    let mut reads = 0;
    while !done.load(Ordering::Relaxed) {
        let found = old.count(row).await.context("a reader failed")?;
        ensure!(found > 0, "the row was not there after {reads} reads");
        reads += 1;
    }
    Ok(reads)
}

/// Returns a program to launch on the database of the earlier server, after the cut-over.
fn on_old(launch: Launch, old: &Database) -> Launch {
    launch.env("MYSQL_URL", old.url()).env("MAINTENANCE_MYSQL_URL", old.url())
}

/// Fills the old tables and copies them beside a live reading.
async fn copied(world: &World, old: &Database) -> Result<(Service, Service)> {
    old.execute(&format!("CREATE TABLE {ARCHIVE} LIKE t_user_health_data")).await?;
    fill(world, old, ARCHIVE, "2025-06-01 00:00:00", 1_000).await?;
    fill(world, old, "t_user_health_data", "2025-07-01 00:00:00", 2_000).await?;
    world.migrate().await?;
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    send(&gateway, &world.device(1), "2025-09-02 16:09", &[80, 81]).await?;
    settled(world).await?;
    adopted(world, old, &["run"]).await?;
    adopted(world, old, &["compare"]).await?;
    Ok((gateway, worker))
}

/// Refuses a cut-over that is not prepared, and one for which a reader leaves no moment.
async fn refusals(world: &World, old: &Database) -> Result<()> {
    let unprepared = adopt(world, old, &["run", "--cut-over"]).finish().await?;
    ensure!(unprepared.code == Some(1), "{:?}: {}", unprepared.code, unprepared.text);
    ensure!(unprepared.text.contains("add --monthly-job-stopped"), "{}", unprepared.text);
    let reader = old.open_read("t_user_health_data").await?;
    let arguments = ["run", "--cut-over", "--monthly-job-stopped", "--lock-timeout", "2s"];
    let busy = adopt(world, old, &arguments).finish().await?;
    ensure!(busy.code == Some(1), "{:?}: {}", busy.code, busy.text);
    for said in ["session ", "Nothing was renamed"] {
        ensure!(busy.text.contains(said), "{said:?} is not in: {}", busy.text);
    }
    reader.release().await
}

/// A cut-over that was made.
struct CutOver {
    /// The time at which the earlier server got its last readings.
    at: String,
    /// The statement of the way back.
    way_back: String,
}

/// Makes the cut-over.
async fn cut_over(world: &World, old: &Database) -> Result<CutOver> {
    let at = old.row("SELECT NOW()").await?.into_iter().next().flatten().context("no time")?;
    refusals(world, old).await?;
    let done = adopted(world, old, &["run", "--cut-over", "--monthly-job-stopped"]).await?;
    let way_back = done.text.split("it is the way back:").nth(1).context("no way back")?;
    let statement = way_back.split(';').next().context("no statement")?;
    let plan = adopt(world, old, &["plan"]).finish().await?;
    ensure!(plan.code == Some(1), "{:?}: {}", plan.code, plan.text);
    ensure!(plan.text.contains("the cut-over is done"), "{}", plan.text);
    Ok(CutOver { at, way_back: statement.trim().to_owned() })
}

/// Migrates the platform's tables while a reader delays a change for longer than a statement may take.
async fn migrate_beside_a_reader(world: &World, old: &Database) -> Result<()> {
    let reader = old.open_read("t_alert_info").await?;
    let migrate = on_old(world.launch("worker", &["migrate"]), old);
    let waits = format!(
        "information_schema.PROCESSLIST WHERE DB = '{}' AND TIME >= 6 \
         AND STATE = 'Waiting for table metadata lock'",
        old.name()
    );
    let delayed = async {
        eventually(SOON, "a change of the platform's tables waits", || async {
            Ok((old.count(&waits).await? > 0).then_some(()))
        })
        .await?;
        reader.release().await
    };
    let migrate = migrate.env("MYSQL_STATEMENT_TIMEOUT", "5s").finish();
    let (migrated, delayed) = tokio::join!(migrate, delayed);
    succeeded(migrated?)?;
    delayed
}

/// Runs the services on the database of the earlier server, and checks that everything goes on there.
async fn go_on(world: &World, old: &Database, gateway: &Service) -> Result<()> {
    migrate_beside_a_reader(world, old).await?;
    let worker = on_old(world.worker(), old).start().await?;
    send(gateway, &world.device(1), "2025-09-02 17:09", &[82]).await?;
    let stored = format!("t_user_health_data WHERE device_sn = '{}'", world.device(1));
    eventually(CAUGHT_UP_WITHIN, "the new reading is stored", || async {
        Ok((old.count(&stored).await? == 3).then_some(()))
    })
    .await?;
    for command in [&["audit", "--full"][..], &["adopt", "run"], &["adopt", "compare"]] {
        succeeded(on_old(world.launch("worker", command), old).finish().await?)?;
    }
    // The platform's alerts stay, and take the serial numbers of this system.
    let column = "information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() \
                  AND TABLE_NAME = 't_alert_info' AND COLUMN_NAME = 'device_sn' \
                  AND CHARACTER_MAXIMUM_LENGTH = 64";
    ensure!(old.count(column).await? == 1, "the serial numbers of alerts are short");
    ensure!(worker.terminate().await?.success(), "the worker failed");
    Ok(())
}

/// Goes back to the old tables, and copies to them what was stored and what waits in Kafka.
async fn go_back(world: &World, old: &Database, gateway: &Service, gone: &CutOver) -> Result<()> {
    // Another program's row, without an id, and a reading that no worker takes any more.
    let other = world.device(2);
    let insert = "INSERT INTO t_user_health_data (device_sn, timestamp, heart_rate)";
    old.execute(&format!("{insert} VALUES ('{other}', '2025-09-02 17:10:00', 70)")).await?;
    send(gateway, &world.device(1), "2025-09-02 18:09", &[83]).await?;
    old.execute(&gone.way_back).await?;
    let worker = world.worker().env("NO_REDIS", "true").start().await?;
    settled(world).await?;
    ensure!(worker.terminate().await?.success(), "the worker failed");
    let blocks = markdown::blocks(DOCUMENT);
    let block = blocks.iter().find(|block| block.section == "Way back" && block.info == "sql");
    let mut statements = block.context("no statements")?.text.clone();
    let own = [&format!("{}.", old.name()), &format!("{}.", world.database.name()), &gone.at];
    for (example, own) in EXAMPLES.into_iter().zip(own) {
        ensure!(statements.contains(example), "{example} is not in: {statements}");
        statements = statements.replace(example, own);
    }
    // The zone of a stock server.
    old.execute(&format!("SET time_zone = '+00:00'; {statements}")).await?;
    let copied = "t_user_health_data WHERE timestamp >= '2025-09-02 17:00:00'";
    ensure!(old.count(copied).await? == 3, "{} are copied", old.count(copied).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_find_the_rows_at_every_moment_of_the_cut_over_and_of_the_way_back() -> Result<()> {
    let world = World::shared("cutover").await?;
    let old = earlier(&world).await?;
    let (gateway, worker) = copied(&world, &old).await?;
    let of_old = format!("t_user_health_data WHERE device_sn LIKE '{}%'", old_prefix(&world));
    let before = old.count(&of_old).await?;
    let row = format!(
        "t_user_health_data WHERE device_sn = '{}000007' AND timestamp = '2025-07-01 00:00:00'",
        old_prefix(&world)
    );
    let done = AtomicBool::new(false);
    let steps = async {
        let made = async {
            ensure!(worker.terminate().await?.success(), "the worker failed");
            let gone = cut_over(&world, &old).await?;
            let left = world.database.rows("SHOW TABLES LIKE 't_user_health_data%'").await?;
            ensure!(left.is_empty(), "left in the former database: {left:?}");
            go_on(&world, &old, &gateway).await?;
            go_back(&world, &old, &gateway, &gone).await
        }
        .await;
        done.store(true, Ordering::Relaxed);
        made
    };
    let (reads, made) = tokio::join!(read_on(&old, &row, &done), steps);
    made?;
    ensure!(reads? > 10, "hardly anything was read");
    ensure!(old.count(&of_old).await? == before, "the old rows are not back, each once");
    ensure!(old.count(ARCHIVE).await? > 0, "the archive is back");
    ensure!(gateway.terminate().await?.success(), "the gateway failed");
    old.remove().await?;
    world.finish().await
}
