//! `worker adopt`: the tables of an earlier server, in a database of its own, are copied beside the running
//! services, compared, and put in their place.

mod copy;
mod cut_over;
mod killed;

use anyhow::{Result, ensure};
use ljwx_tests::clients::mysql::Database;
use ljwx_tests::stack::accounts::platform;
use ljwx_tests::stack::launch::{Finished, Launch};
use ljwx_tests::stack::world::World;

/// The tables of the earlier server.
const ORIGINAL: &str = include_str!("../../src/fakes/original.sql");

/// Columns of the old tables that tests fill.
const COLUMNS: &str = "device_sn, timestamp, heart_rate, blood_oxygen, temperature, step, latitude, \
                       longitude, user_id, upload_method, create_time, update_time";

/// Devices of the old tables.
const DEVICES: usize = 200;

/// Creates the database of an earlier server, with its tables and a table of numbers from 0 on.
async fn earlier(world: &World) -> Result<Database> {
    let name = platform(world.database.name());
    let old = Database::create(&world.stack.mysql_url, &name).await?;
    let statements = ORIGINAL.split(';').map(str::trim).filter(|sql| !sql.is_empty());
    for statement in statements {
        old.execute(statement).await?;
    }
    for statement in [
        "CREATE TABLE digits (n INT PRIMARY KEY)",
        "INSERT INTO digits VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)",
        "CREATE TABLE numbers (n INT PRIMARY KEY)",
        "INSERT INTO numbers SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 10000 * e.n \
         FROM digits AS a, digits AS b, digits AS c, digits AS d, digits AS e",
    ] {
        old.execute(statement).await?;
    }
    Ok(old)
}

/// Start of the serial numbers in the old tables. No device of a fleet has them.
fn old_prefix(world: &World) -> String {
    format!("OLD{}", world.serial_prefix())
}

/// Fills an old table with `rows` readings, a twentieth of them twice with other values.
async fn fill(world: &World, old: &Database, table: &str, from: &str, rows: usize) -> Result<()> {
    let prefix = old_prefix(world);
    old.execute(&format!(
        "INSERT INTO {table} ({COLUMNS}) SELECT CONCAT('{prefix}', LPAD(n MOD {DEVICES}, 6, '0')), at, \
         60 + n MOD 60, 90 + n MOD 10, 36.5, n MOD 1000, 22.540987, 114.061234, 12, 'wifi', at, at \
         FROM (SELECT n, '{from}' + INTERVAL 15 * (n DIV {DEVICES}) SECOND AS at FROM numbers \
         WHERE n < {rows}) AS made ORDER BY n"
    ))
    .await?;
    // The watch has sent these again, without blood oxygen and one step later.
    old.execute(&format!(
        "INSERT INTO {table} ({COLUMNS}) SELECT device_sn, timestamp, heart_rate, NULL, temperature, \
         step + 1, latitude, longitude, user_id, 'bluetooth', create_time, update_time \
         FROM {table} WHERE id MOD 20 = 0"
    ))
    .await
}

/// Returns a `worker adopt` to launch, as fast as the server allows.
fn adopt(world: &World, old: &Database, arguments: &[&str]) -> Launch {
    world
        .launch("worker", &[&["adopt"], arguments].concat())
        .env("ADOPT_FROM_DATABASE", old.name())
        .env("ADOPT_ROWS_PER_SECOND", "1000000")
}

/// Runs a `worker adopt` that must succeed.
async fn adopted(world: &World, old: &Database, arguments: &[&str]) -> Result<Finished> {
    succeeded(adopt(world, old, arguments).finish().await?)
}

fn succeeded(done: Finished) -> Result<Finished> {
    ensure!(done.code == Some(0), "ended with {:?}: {}", done.code, done.text);
    Ok(done)
}

/// Returns how many readings these old tables hold, each once.
async fn readings(old: &Database, tables: &[&str]) -> Result<i64> {
    let each =
        tables.iter().map(|table| format!("SELECT DISTINCT device_sn, timestamp FROM {table}"));
    // UNION leaves out what is there already.
    let all = each.collect::<Vec<_>>().join(" UNION ");
    old.number(&format!("SELECT COUNT(*) FROM ({all}) AS readings")).await
}

/// Returns how many rows of the main table are adopted: their ids are no sources.
async fn adopted_rows(database: &Database) -> Result<i64> {
    database.count("t_user_health_data WHERE id < 0 OR id >= 1 << 60").await
}
