//! How far the copy of each old table is, in the table `adopt_progress`. `copy` moves it in the
//! transaction of each chunk.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::Context;
use ljwx_ledger::mysql::MySqlConnection;
use ljwx_ledger::mysql::removal::ROWS_MAX;
use ljwx_service::text::{Align, print_found, table_of};
use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow};

use super::screen::time_text;
use super::source::Source;

/// The table of the progress. It stands where the tables of this system are.
pub const PROGRESS: &str = "adopt_progress";

/// The name of the lock of a run. Names of locks are the server's, and a server may have several databases.
pub const LOCK: &str = "CONCAT('ljwx_adopt_', LEFT(SHA2(DATABASE(), 256), 40))";

/// Names of the columns of the printed table.
const PRINTED: [&str; 6] = ["table", "state", "rows", "of about", "rows/s", "left"];

/// The progress of one table.
#[derive(Debug, Clone, Default, PartialEq, FromRow, Serialize)]
pub struct Progress {
    /// Name of the table under the earlier server.
    pub source_table: String,
    /// Greatest id of a copied row.
    pub copied_to: Option<i64>,
    /// Checksum of that row.
    pub last_row: Option<i64>,
    /// Rows read, each once.
    pub row_count: i64,
    /// Rows of the table at the start of the last pass, as the server estimates them.
    pub rows_total: i64,
    /// Rows per second, lately.
    pub rate: f64,
    /// Whether a pass over the table has begun and not ended.
    pub under_way: bool,
    /// Start of the last pass that has come to the end, in the time zone of the devices.
    pub passed_at: Option<String>,
    pub updated_at: String,
}

/// The progress of all tables, and what was set aside of them.
#[derive(Debug, Serialize)]
struct Status {
    tables: Vec<TableStatus>,
    set_aside: Vec<SetAsideCount>,
}

/// The line of one table.
#[derive(Debug, Serialize)]
struct TableStatus {
    #[serde(flatten)]
    progress: Progress,
    state: &'static str,
    rows_left: i64,
    /// `None`: no copy is at work, or its rate is unknown.
    seconds_left: Option<f64>,
}

impl Progress {
    /// Returns the rows that are left, by the server's estimate.
    pub fn rows_left(&self) -> i64 {
        if self.passed_at.is_some() && !self.under_way {
            return 0;
        }
        (self.rows_total - self.row_count).max(0)
    }

    fn state(&self, is_at_work: bool) -> &'static str {
        match (self.under_way, &self.passed_at) {
            (true, _) if is_at_work => "copying",
            (true, _) => "stopped",
            (false, Some(_)) => "copied",
            (false, None) => "waiting",
        }
    }
}

/// The columns of a [`Progress`].
const COLUMNS: &str = "CAST(source_table AS CHAR) AS source_table, copied_to, last_row, row_count, \
    rows_total, rate, begun_at IS NOT NULL AS under_way, \
    CAST(DATE_FORMAT(passed_at, '%Y-%m-%d %H:%i:%s') AS CHAR) AS passed_at, \
    CAST(DATE_FORMAT(updated_at, '%Y-%m-%d %H:%i:%s') AS CHAR) AS updated_at";

/// Reads the progress of all tables, by their names.
pub async fn read_all(
    connection: &mut MySqlConnection,
) -> anyhow::Result<BTreeMap<String, Progress>> {
    let query = format!("SELECT {COLUMNS} FROM adopt_progress");
    let all: Vec<Progress> = sqlx::query_as(AssertSqlSafe(query))
        .fetch_all(connection)
        .await
        .context("cannot read adopt_progress, run `worker migrate` first")?;
    Ok(all.into_iter().map(|one| (one.source_table.clone(), one)).collect())
}

/// Reads the progress of a table.
pub async fn read(connection: &mut MySqlConnection, name: &str) -> Result<Progress, sqlx::Error> {
    let query = format!("SELECT {COLUMNS} FROM adopt_progress WHERE source_table = ?");
    sqlx::query_as(AssertSqlSafe(query)).bind(name).fetch_one(connection).await
}

/// Begins a pass over a table, or continues one that was stopped. Returns its progress.
pub async fn begin(
    connection: &mut MySqlConnection,
    source: &Source,
) -> Result<Progress, sqlx::Error> {
    sqlx::query(
        "INSERT INTO adopt_progress (source_table, rows_total, begun_at) VALUES (?, ?, NOW()) \
         ON DUPLICATE KEY UPDATE rows_total = ?, begun_at = COALESCE(begun_at, NOW())",
    )
    .bind(&source.name)
    .bind(source.rows)
    .bind(source.rows)
    .execute(&mut *connection)
    .await?;
    read(connection, &source.name).await
}

/// Moves the progress of a table over a chunk that ends with the id `to`.
pub async fn advance(
    connection: &mut MySqlConnection,
    name: &str,
    (to, last_row): (i64, Option<i64>),
    rows: i64,
    rate: f64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE adopt_progress SET last_row = IF(COALESCE(copied_to, ?) <= ?, ?, last_row), \
         copied_to = GREATEST(COALESCE(copied_to, ?), ?), row_count = row_count + ?, rate = ? \
         WHERE source_table = ?",
    )
    .bind(to)
    .bind(to)
    .bind(last_row)
    .bind(to)
    .bind(to)
    .bind(rows)
    .bind(rate)
    .bind(name)
    .execute(connection)
    .await
    .map(drop)
}

/// Ends a pass that has come to the end of a table.
pub async fn finish(connection: &mut MySqlConnection, name: &str) -> Result<(), sqlx::Error> {
    // Assignments run from left to right.
    sqlx::query(
        "UPDATE adopt_progress SET passed_at = begun_at, begun_at = NULL, rate = 0 \
         WHERE source_table = ?",
    )
    .bind(name)
    .execute(connection)
    .await
    .map(drop)
}

/// Forgets the progress of tables and what was set aside of them: they are copied from the first row.
pub async fn forget(connection: &mut MySqlConnection, names: &[&str]) -> Result<(), sqlx::Error> {
    for name in names {
        // If the process is killed in between, a table without progress is forgotten again.
        for table in [PROGRESS, "adopt_set_aside"] {
            let statement = format!("DELETE FROM {table} WHERE source_table = ? LIMIT {ROWS_MAX}");
            loop {
                let delete = sqlx::query(AssertSqlSafe(statement.clone())).bind(name);
                if delete.execute(&mut *connection).await?.rows_affected() < ROWS_MAX {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// What was set aside of a table, by column and reason.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize)]
pub struct SetAsideCount {
    pub source_table: String,
    /// The column; empty for whole rows.
    pub field: String,
    pub reason: String,
    pub row_count: i64,
}

/// Counts what was set aside.
pub async fn set_aside(
    connection: &mut MySqlConnection,
) -> Result<Vec<SetAsideCount>, sqlx::Error> {
    sqlx::query_as(
        "SELECT CAST(source_table AS CHAR) AS source_table, CAST(field AS CHAR) AS field, \
         CAST(reason AS CHAR) AS reason, COUNT(*) AS row_count FROM adopt_set_aside \
         GROUP BY adopt_set_aside.source_table, adopt_set_aside.field, adopt_set_aside.reason \
         ORDER BY adopt_set_aside.source_table, adopt_set_aside.field, adopt_set_aside.reason",
    )
    .fetch_all(connection)
    .await
}

/// Returns whether a run is at work.
async fn is_at_work(connection: &mut MySqlConnection) -> Result<bool, sqlx::Error> {
    let query = format!("SELECT IS_USED_LOCK({LOCK}) IS NOT NULL");
    sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(connection).await
}

/// Prints how far the copies are: a table, or one JSON document.
pub async fn print(
    connection: &mut MySqlConnection,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let all = read_all(connection).await?;
    let is_at_work = is_at_work(connection).await?;
    let tables = all.into_values().map(|progress| {
        let (rows_left, rate) = (progress.rows_left(), progress.rate);
        let seconds_left = (is_at_work && rate > 0.0).then(|| rows_left as f64 / rate);
        TableStatus { state: progress.state(is_at_work), rows_left, seconds_left, progress }
    });
    let status = Status { tables: tables.collect(), set_aside: set_aside(connection).await? };
    Ok(print_found(json, &status, out, print_tables)?)
}

fn print_tables(status: &Status, out: &mut impl Write) -> io::Result<()> {
    let mut rows = vec![PRINTED.map(str::to_owned)];
    rows.extend(status.tables.iter().map(|table| {
        let progress = &table.progress;
        [
            progress.source_table.clone(),
            table.state.to_owned(),
            progress.row_count.to_string(),
            progress.rows_total.to_string(),
            format!("{:.0}", progress.rate),
            table.seconds_left.map_or("-".to_owned(), time_text),
        ]
    }));
    let sides = [Align::Left, Align::Left, Align::Right, Align::Right, Align::Right, Align::Right];
    table_of(sides, &rows, out)?;
    for SetAsideCount { source_table, field, reason, row_count } in &status.set_aside {
        let what = if field.is_empty() { "rows".to_owned() } else { format!("values of {field}") };
        writeln!(out, "set aside from {source_table}: {row_count} {what}, {reason}")?;
    }
    Ok(())
}
