//! Copies an old table in chunks. Each chunk is one transaction with its progress, so a copy that is killed
//! loses and doubles nothing. `row_writer` stores the rows.

mod row_writer;

use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use ljwx_ledger::mysql::MySqlConnection;
use ljwx_ledger::mysql::errors::{self, DEADLOCK, LOCK_WAIT_TIMEOUT, NO_SUCH_TABLE};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::old_table::{self, BEFORE_FIRST};
use super::progress::{self, Progress};
use super::screen::Screen;
use super::source::Source;
use row_writer::RowWriter;

/// Attempts at one chunk, if its rows are locked by others.
const TRIES_MAX: u32 = 10;

/// Pause before the next attempt.
const RETRY_WAIT: Duration = Duration::from_millis(500);

/// After a chunk, a copy or a comparison rests for this part of the chunk's time at least: a quarter.
const REST_PART: u32 = 4;

/// Days whose documents may still change by readings that devices send late.
const LATE_DAYS: u32 = 8;

/// Hours by which the clock of the earlier server may differ: that of another time zone.
const CLOCK_HOURS: u32 = 26;

/// The end of a pass over a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyEnd {
    /// Every row is copied.
    Complete,
    /// Another table has the name now.
    Replaced,
    /// The process is stopping.
    Stopped,
}

/// The outcome of one chunk.
enum Chunk {
    Copied {
        /// Greatest id of the chunk.
        to: i64,
        read: usize,
        /// Rows that no earlier chunk has read.
        new: usize,
    },
    End,
    Replaced,
}

/// Copies tables over one connection.
pub struct Copier<'a> {
    rows_per_second: u32,
    stop: &'a CancellationToken,
    rows: RowWriter<'a>,
    screen: Screen,
}

impl<'a> Copier<'a> {
    /// Creates a copier with the statements of the connection's server.
    pub async fn new(
        connection: &mut MySqlConnection,
        zone: &'a TimeZone,
        rows_per_second: u32,
        stop: &'a CancellationToken,
    ) -> Result<Self, sqlx::Error> {
        let rows = RowWriter::new(connection, zone).await?;
        Ok(Self { rows_per_second, stop, rows, screen: Screen::new() })
    }

    /// Copies the rows of a table that are not copied yet.
    pub async fn copy(
        &mut self,
        connection: &mut MySqlConnection,
        source: &Source,
    ) -> Result<CopyEnd, sqlx::Error> {
        let progress = progress::begin(connection, source).await?;
        let condition = changed_since(source, &progress);
        let mut after = match (&condition, progress.copied_to) {
            (None, Some(to)) => old_table::overlap_start(connection, source, to).await?,
            _ => BEFORE_FIRST,
        };
        self.screen.begin(&source.name, source.rows, progress.row_count);
        loop {
            if self.stop.is_cancelled() {
                return Ok(CopyEnd::Stopped);
            }
            let begun = Instant::now();
            let condition = condition.as_deref();
            match self.chunk_with_retries(connection, source, after, condition).await? {
                Chunk::Copied { to, read, new } => {
                    after = to;
                    self.screen.add(new);
                    let pause = pause(read, self.rows_per_second, begun.elapsed());
                    self.stop.run_until_cancelled(tokio::time::sleep(pause)).await;
                }
                Chunk::End => break,
                Chunk::Replaced => return Ok(CopyEnd::Replaced),
            }
        }
        progress::finish(connection, &source.name).await?;
        self.screen.end();
        Ok(CopyEnd::Complete)
    }

    async fn chunk_with_retries(
        &self,
        connection: &mut MySqlConnection,
        source: &Source,
        after: i64,
        condition: Option<&str>,
    ) -> Result<Chunk, sqlx::Error> {
        let mut tries = 1;
        loop {
            let failed = match self.chunk(connection, source, after, condition).await {
                Ok(chunk) => return Ok(chunk),
                Err(error) => error,
            };
            match errors::number(&failed) {
                // The monthly job has renamed the table and not created it yet.
                Some(NO_SUCH_TABLE) if names(&failed, source) => return Ok(Chunk::Replaced),
                Some(DEADLOCK) if tries < TRIES_MAX => {}
                Some(LOCK_WAIT_TIMEOUT) if tries < TRIES_MAX && !self.stop.is_cancelled() => {
                    let sessions = old_table::open_transactions(connection).await;
                    warn!(table = source.table, sessions, "rows or a table are locked, retrying");
                }
                _ => return Err(failed),
            }
            tries += 1;
            tokio::time::sleep(RETRY_WAIT).await;
        }
    }

    async fn chunk(
        &self,
        connection: &mut MySqlConnection,
        source: &Source,
        after: i64,
        condition: Option<&str>,
    ) -> Result<Chunk, sqlx::Error> {
        let mut transaction = connection.begin().await?;
        match self.write_chunk(&mut transaction, source, after, condition).await {
            Ok(chunk @ Chunk::Copied { .. }) => transaction.commit().await.map(|()| chunk),
            Ok(nothing) => transaction.rollback().await.map(|()| nothing),
            Err(error) => {
                // Without an answer, the connection takes no statement any more.
                if errors::number(&error).is_some() {
                    transaction.rollback().await?;
                }
                Err(error)
            }
        }
    }

    async fn write_chunk(
        &self,
        connection: &mut MySqlConnection,
        source: &Source,
        after: i64,
        condition: Option<&str>,
    ) -> Result<Chunk, sqlx::Error> {
        let progress = progress::read(connection, &source.name).await?;
        // From the first query on, the transaction keeps the table from being renamed.
        if !is_same_table(connection, source, &progress).await? {
            return Ok(Chunk::Replaced);
        }
        let Some(to) = old_table::page_end(connection, source, after, condition).await? else {
            return Ok(Chunk::End);
        };
        let rows = old_table::rows(connection, source, (after, to), condition).await?;
        self.rows.write(connection, source, &rows).await?;
        let known = progress.copied_to.unwrap_or(BEFORE_FIRST);
        let new = rows.iter().filter(|row| row.id > known).count();
        let last_row = old_table::fingerprint(connection, source, to).await?;
        let (name, rate) = (&source.name, self.screen.rate());
        progress::advance(connection, name, (to, last_row), new as i64, rate).await?;
        Ok(Chunk::Copied { to, read: rows.len(), new })
    }
}

/// Returns whether the table is the one whose rows were copied: it has the last copied row.
pub async fn is_same_table(
    connection: &mut MySqlConnection,
    source: &Source,
    progress: &Progress,
) -> Result<bool, sqlx::Error> {
    let Some(copied_to) = progress.copied_to else { return Ok(true) };
    Ok(old_table::fingerprint(connection, source, copied_to).await? == progress.last_row)
}

/// Returns whether an error names the old table. The server writes `'database.table'`.
fn names(error: &sqlx::Error, source: &Source) -> bool {
    let name = format!("'{}'", source.path.replace('`', ""));
    errors::message(error).to_lowercase().contains(&name.to_lowercase())
}

/// Returns the condition for rows of a table of documents that may have changed since the last pass. Readings
/// never change, so their tables have none.
fn changed_since(source: &Source, progress: &Progress) -> Option<String> {
    let passed_at = progress.passed_at.as_ref().filter(|_| !source.kind.has_readings())?;
    let copied_to = progress.copied_to.unwrap_or(BEFORE_FIRST);
    let mut condition = format!(
        "id > {copied_to} OR `{}` >= DATE('{passed_at}') - INTERVAL {LATE_DAYS} DAY",
        source.kind.time_column()
    );
    if source.has("update_time") {
        condition.push_str(&format!(
            " OR update_time >= TIMESTAMP('{passed_at}') - INTERVAL {CLOCK_HOURS} HOUR"
        ));
    }
    Some(condition)
}

/// Returns the pause after a chunk of `rows` rows that took so long.
pub fn pause(rows: usize, rows_per_second: u32, took: Duration) -> Duration {
    let due = Duration::from_secs_f64(rows as f64 / f64::from(rows_per_second));
    due.saturating_sub(took).max(took / REST_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_its_rate_and_rests_in_any_case() {
        let millis = Duration::from_millis;
        for (rows, took, expected) in [(1_000, 40, 160), (1_000, 400, 100), (0, 8, 2)] {
            assert_eq!(pause(rows, 5_000, millis(took)), millis(expected), "{rows} in {took} ms");
        }
    }
}
