//! Writes one batch to MySQL in one transaction. Retrying, waiting and dead-lettering belong to
//! `pipeline`.

use futures_util::TryStreamExt;
use ljwx_ledger::ledger::{Advance, Counts, Ledger};
use ljwx_ledger::mysql::errors::{self, Remedy};
use ljwx_ledger::mysql::server_version;
use ljwx_ledger::mysql::sql::Dialect;
use ljwx_ledger::mysql::{MySqlConnection, MySqlPool};
use sqlx::AssertSqlSafe;
use tokio::sync::OnceCell;

use super::counted_rows::CountStatements;
use super::daily_weekly::{PeriodCache, PeriodDocuments, PeriodStatements, PeriodUpsert};
use super::error::WriteError;
use super::main_table::MainTableUpsert;
use super::packet_limit::{PacketLimit, joined};
use crate::batch::{Batch, Segment};

/// Writes batches to the tables of readings and advances the ledger.
pub struct BatchWriter {
    pool: MySqlPool,
    ledger: Ledger,
    texts: OnceCell<BatchStatements>,
    period_cache: PeriodCache,
    packet: PacketLimit,
}

/// All statements, in the dialect of the server.
struct BatchStatements {
    /// The version of the server.
    version: String,
    main: MainTableUpsert,
    periods: PeriodStatements,
    count: CountStatements,
}

/// The outcome of a transaction's rows.
enum WriteResult {
    /// Written, with the number of new rows of the main table, segment by segment.
    Written(Vec<i64>),
    /// A period of which only the guard was to move is missing or has another document.
    Gone,
}

impl BatchWriter {
    /// Creates a writer on `pool`, whose transactions advance `ledger`.
    pub fn new(pool: MySqlPool, ledger: Ledger) -> Self {
        Self {
            pool,
            ledger,
            texts: OnceCell::new(),
            period_cache: PeriodCache::new(),
            packet: PacketLimit::default(),
        }
    }

    /// Returns the ledger that the transactions advance.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Forgets which documents are stored.
    pub fn forget_documents(&self) {
        self.period_cache.clear();
    }

    /// Writes all rows of a batch and advances the ledger of its partitions, or changes nothing.
    /// Returns the counts of the deliveries, segment by segment.
    pub async fn write(&self, batch: &Batch) -> Result<Vec<Counts>, WriteError> {
        let written = self.try_write(batch).await;
        self.reset_limit_after(&written);
        written.map_err(|error| self.with_version(error))
    }

    async fn try_write(&self, batch: &Batch) -> Result<Vec<Counts>, WriteError> {
        let whole = PeriodDocuments::of(&batch.segments);
        let rest = self.period_cache.rest(&whole);
        let counts = match self.transact(batch, &rest).await? {
            Some(counts) => counts,
            None => {
                self.period_cache.forget(&whole);
                self.transact(batch, &whole).await?.unwrap_or_default()
            }
        };
        self.period_cache.committed(&whole);
        self.period_cache.export();
        Ok(counts)
    }

    /// Returns `None` if nothing was written because a period was not as expected.
    async fn transact(
        &self,
        batch: &Batch,
        calendar: &PeriodDocuments<'_>,
    ) -> Result<Option<Vec<Counts>>, WriteError> {
        let mut connection = ljwx_ledger::mysql::acquire(&self.pool).await?;
        let texts = self.texts(&mut connection).await?;
        let text_max = self.packet.text_max(&mut connection).await?;
        let mut transaction = connection.begin().await?;
        let segments = &batch.segments;
        let upserts = Upserts::of(texts, segments, calendar, text_max);
        let written = write_rows(&mut transaction, upserts, text_max).await;
        let stored = match written {
            Ok(WriteResult::Written(stored)) => stored,
            Ok(WriteResult::Gone) => {
                transaction.rollback().await?;
                return Ok(None);
            }
            Err(error @ WriteError::Data { .. }) => {
                // The next attempt needs a connection, and this connection is sound.
                transaction.rollback().await?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        let moves = segments.iter().zip(stored).map(|(segment, stored)| segment.advance(stored));
        let moves: Vec<Advance> = moves.collect();
        let mut fenced = Vec::new();
        for advance in &moves {
            if !self.ledger.advance(&mut transaction, advance).await? {
                fenced.push(*advance);
            }
        }
        if !fenced.is_empty() {
            transaction.rollback().await?;
            return Err(WriteError::Fenced(fenced));
        }
        let counts = moves.iter().map(|advance| advance.counts).collect();
        match transaction.commit().await {
            Ok(()) => Ok(Some(counts)),
            Err(error) => Err(WriteError::held(&error, moves)),
        }
    }

    /// Writes the rows of `segments` and rolls back, to learn whether MySQL accepts them.
    pub async fn probe(&self, segments: &[Segment]) -> Result<(), WriteError> {
        let tried = self.try_probe(segments).await;
        self.reset_limit_after(&tried);
        tried
    }

    async fn try_probe(&self, segments: &[Segment]) -> Result<(), WriteError> {
        let mut connection = self.pool.acquire().await?;
        let texts = self.texts(&mut connection).await?;
        let text_max = self.packet.text_max(&mut connection).await?;
        let mut transaction = connection.begin().await?;
        let calendar = PeriodDocuments::of(segments);
        let upserts = Upserts::of(texts, segments, &calendar, text_max);
        let tried = write_rows(&mut transaction, upserts, text_max).await;
        transaction.rollback().await?;
        tried.map(drop)
    }

    /// Adds the server's version to the error of a statement that does not fit the server.
    fn with_version(&self, mut error: WriteError) -> WriteError {
        if let WriteError::Retry { remedy: Remedy::Schema, message, .. } = &mut error
            && let Some(texts) = self.texts.get()
        {
            message.push_str(&format!(" (server version {})", texts.version));
        }
        error
    }

    fn reset_limit_after<T>(&self, result: &Result<T, WriteError>) {
        if matches!(result, Err(WriteError::Retry { .. })) {
            self.packet.reset();
        }
    }

    async fn texts(
        &self,
        connection: &mut MySqlConnection,
    ) -> Result<&BatchStatements, sqlx::Error> {
        self.texts.get_or_try_init(|| texts(connection, &self.ledger)).await
    }
}

async fn texts(
    connection: &mut MySqlConnection,
    ledger: &Ledger,
) -> Result<BatchStatements, sqlx::Error> {
    let version = server_version::query(connection).await?;
    let dialect = Dialect::of_version(&version);
    Ok(BatchStatements {
        version,
        main: MainTableUpsert::new(dialect),
        periods: PeriodStatements::new(dialect),
        count: CountStatements::new(ledger),
    })
}

/// All upserts of a batch as texts, with the number of rows of each. The server's affected rows
/// have a meaning only beside these numbers.
struct Upserts<'a> {
    segments: &'a [Segment],
    texts: Vec<String>,
    /// Whether each text is an upsert. The others keep the ledger's count of rows.
    is_upsert: Vec<bool>,
    /// Rows of each statement of the main table, segment by segment. Each segment has its own
    /// statements: only a statement's affected rows distinguish new rows from merged ones, and the
    /// ledger counts by partition.
    rows: Vec<Vec<i64>>,
    /// Rows of each statement of the other tables, if all of these rows must exist.
    known: Vec<Option<i64>>,
}

impl<'a> Upserts<'a> {
    fn of(
        texts: &BatchStatements,
        segments: &'a [Segment],
        calendar: &PeriodDocuments<'_>,
        text_max: usize,
    ) -> Self {
        let mut upserts = Self {
            segments,
            texts: Vec::new(),
            is_upsert: Vec::new(),
            rows: Vec::new(),
            known: Vec::new(),
        };
        for segment in segments {
            upserts.segment(texts, segment, text_max);
        }
        for PeriodUpsert { text, known } in texts.periods.upserts(calendar, text_max) {
            upserts.push(text, true);
            upserts.known.push(known);
        }
        upserts
    }

    fn segment(&mut self, texts: &BatchStatements, segment: &Segment, text_max: usize) {
        let (count, partition) = (&texts.count, segment.partition);
        self.push(count.begin(partition), false);
        let (main, rows): (Vec<_>, Vec<_>) = texts.main.main(segment, text_max).into_iter().unzip();
        let merged = main.len() - segment.replays.len();
        for (index, text) in main.into_iter().enumerate() {
            self.push(text, true);
            // The statements of replays are the last, one for each.
            let replay = index.checked_sub(merged).and_then(|index| segment.replays.get(index));
            if let Some((_, row)) = replay {
                self.push(count.after_replay(partition, row.id), false);
            }
        }
        self.rows.push(rows);
        self.push(count.end(partition), false);
    }

    fn push(&mut self, text: String, is_upsert: bool) {
        self.texts.push(text);
        self.is_upsert.push(is_upsert);
    }

    /// Returns the error of the statement that failed after `done` statements succeeded.
    fn failed(&self, error: sqlx::Error, done: usize) -> WriteError {
        if self.is_upsert.get(done) == Some(&false) {
            return error.into();
        }
        let done = self.is_upsert.iter().take(done).filter(|is_upsert| **is_upsert).count();
        let suspect = errors::row(&error)
            .and_then(|row| MainTableUpsert::named(self.segments, &self.rows, done, row));
        WriteError::of_rows(error, suspect.cloned())
    }
}

/// Sends all statements in one round trip, or in as few as `text_max` allows.
async fn write_rows(
    connection: &mut MySqlConnection,
    mut upserts: Upserts<'_>,
    text_max: usize,
) -> Result<WriteResult, WriteError> {
    let mut affected = Vec::with_capacity(upserts.texts.len());
    for text in joined(std::mem::take(&mut upserts.texts), text_max) {
        // Safe: `sql::ValueList` has escaped every value.
        let mut results = sqlx::raw_sql(AssertSqlSafe(text)).execute_many(&mut *connection);
        loop {
            match results.try_next().await {
                Ok(Some(result)) => affected.push(result.rows_affected() as i64),
                Ok(None) => break,
                Err(error) => return Err(upserts.failed(error, affected.len())),
            }
        }
    }
    let of_upserts = affected.into_iter().zip(&upserts.is_upsert);
    let affected: Vec<i64> =
        of_upserts.filter(|(_, is_upsert)| **is_upsert).map(|(affected, _)| affected).collect();
    Ok(new_rows(&upserts.rows, &upserts.known, &affected))
}

/// Returns the number of new rows, segment by segment, from the server's affected rows: a new row
/// counts 1, a changed row 2. `deliveries` grows with every merge, so a merged row always counts 2.
fn new_rows(rows: &[Vec<i64>], known: &[Option<i64>], affected: &[i64]) -> WriteResult {
    let mut affected = affected.iter().copied();
    let mut next = || affected.next().unwrap_or_default();
    let stored = rows.iter().map(|own| own.iter().map(|rows| 2 * rows - next()).sum()).collect();
    let mut there = true;
    for known in known {
        let affected = next();
        there &= known.is_none_or(|rows| affected == 2 * rows);
    }
    if there { WriteResult::Written(stored) } else { WriteResult::Gone }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affected_rows_tell_new_rows_from_merged_ones_and_periods_that_are_gone() {
        let rows = [vec![3, 2], vec![1]];
        for (known, affected, expected) in [
            // One row of the first statement and both of the second are new. The other segment's
            // row merged.
            (vec![], vec![5, 2, 2], Some(vec![3, 0])),
            (vec![Some(2), None], vec![6, 4, 1, 4, 0], Some(vec![0, 1])),
            // One of two known periods was missing, so the statement inserted it.
            (vec![Some(2)], vec![6, 4, 2, 3], None),
        ] {
            let found = match new_rows(&rows, &known, &affected) {
                WriteResult::Written(stored) => Some(stored),
                WriteResult::Gone => None,
            };
            assert_eq!(found, expected, "{affected:?}");
        }
    }
}
