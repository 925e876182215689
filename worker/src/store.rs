//! Writes one batch to MySQL in one transaction and classifies what goes wrong. Retrying, waiting
//! and dead-lettering belong to `flush`.

use common::ledger::{Advance, Ledger};
use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, MySqlPool, Row as _};
use tokio::sync::OnceCell;

use crate::batch::{Batch, Segment};
use crate::daily::{Calendar, PeriodStatements, PeriodUpsert, Remembered};
use crate::errors::{self, Remedy};
use crate::sql::Dialect;
use crate::statements::Statements;

/// Why a batch was not written, named by the remedy.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The database cannot take it now, or lacks something: hold the batch and try again.
    #[error("{message}")]
    Held {
        /// What would help.
        remedy: Remedy,
        /// What the database said.
        message: String,
    },
    /// A value is refused: find the deliveries it is in.
    #[error("{code}: {message}")]
    Data {
        /// Number and SQLSTATE.
        code: String,
        /// What the database said, without the value.
        message: String,
    },
    /// The ledger does not stand where the batch begins: ask it what that means.
    #[error("the ledger stands elsewhere for {} partition(s)", .0.len())]
    Fenced(Vec<Advance>),
}

impl WriteError {
    /// The stable word: metric label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Held { remedy, .. } => remedy.as_str(),
            Self::Data { .. } => Remedy::Data.as_str(),
            Self::Fenced(_) => "fenced",
        }
    }

    /// Of a statement that carries readings' values: the only ones that may be at fault themselves.
    fn of_rows(error: sqlx::Error) -> Self {
        match errors::remedy(&error) {
            Remedy::Data => Self::Data {
                code: errors::code(&error).unwrap_or_default(),
                message: errors::message(&error),
            },
            remedy => Self::Held { remedy, message: errors::message(&error) },
        }
    }
}

/// Of everything else: the ledger's row, the transaction itself.
impl From<sqlx::Error> for WriteError {
    fn from(error: sqlx::Error) -> Self {
        let remedy = match errors::remedy(&error) {
            Remedy::Data => Remedy::Infrastructure,
            remedy => remedy,
        };
        Self::Held { remedy, message: errors::message(&error) }
    }
}

/// The tables of the readings and their ledger.
pub struct Store {
    pool: MySqlPool,
    ledger: Ledger,
    texts: OnceCell<Texts>,
    remembered: Remembered,
}

/// All statements, in the words of the server.
struct Texts {
    main: Statements,
    periods: PeriodStatements,
}

/// What became of the rows of a transaction.
enum Rows {
    /// Written; how many of the main table's were new, segment by segment.
    Written(Vec<i64>),
    /// A period was not there of which only the guard was to be moved.
    Gone,
}

impl Store {
    /// A store on `pool`, accounted for in `ledger`.
    pub fn new(pool: MySqlPool, ledger: Ledger) -> Self {
        Self { pool, ledger, texts: OnceCell::new(), remembered: Remembered::new() }
    }

    /// The ledger that this store's transactions move.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Writes all rows of a batch and moves its partitions, or does nothing. Returns how many rows
    /// were new, segment by segment.
    pub async fn write(&self, batch: &Batch) -> Result<Vec<i64>, WriteError> {
        let whole = Calendar::of(&batch.segments);
        let rest = self.remembered.rest(&whole);
        let stored = match self.transact(batch, &rest).await? {
            Some(stored) => stored,
            None => {
                self.remembered.forget(&whole);
                self.transact(batch, &whole).await?.unwrap_or_default()
            }
        };
        self.remembered.committed(&whole);
        Ok(stored)
    }

    /// `None` where nothing was written because a period was gone.
    async fn transact(
        &self,
        batch: &Batch,
        calendar: &Calendar<'_>,
    ) -> Result<Option<Vec<i64>>, WriteError> {
        let mut connection = self.pool.acquire().await?;
        let texts = self.texts(&mut connection).await?;
        let mut transaction = connection.begin().await?;
        let written = write_rows(&mut transaction, texts, &batch.segments, calendar).await;
        let Rows::Written(stored) = written.map_err(WriteError::of_rows)? else {
            transaction.rollback().await?;
            return Ok(None);
        };
        let mut fenced = Vec::new();
        for (segment, stored) in batch.segments.iter().zip(&stored) {
            let advance = segment.advance(*stored);
            if !self.ledger.advance(&mut transaction, &advance).await? {
                fenced.push(advance);
            }
        }
        if !fenced.is_empty() {
            transaction.rollback().await?;
            return Err(WriteError::Fenced(fenced));
        }
        transaction.commit().await?;
        Ok(Some(stored))
    }

    /// Tries whether rows would be taken, and takes them back.
    pub async fn probe(&self, segments: &[Segment]) -> Result<(), WriteError> {
        let mut connection = self.pool.acquire().await?;
        let texts = self.texts(&mut connection).await?;
        let mut transaction = connection.begin().await?;
        let tried = write_rows(&mut transaction, texts, segments, &Calendar::of(segments)).await;
        transaction.rollback().await?;
        tried.map(drop).map_err(WriteError::of_rows)
    }

    async fn texts(&self, connection: &mut MySqlConnection) -> Result<&Texts, sqlx::Error> {
        self.texts.get_or_try_init(|| texts(connection)).await
    }
}

async fn texts(connection: &mut MySqlConnection) -> Result<Texts, sqlx::Error> {
    let row = sqlx::query("SELECT VERSION()").fetch_one(connection).await?;
    let dialect = Dialect::of_version(row.try_get::<&str, _>(0)?);
    Ok(Texts { main: Statements::new(dialect), periods: PeriodStatements::new(dialect) })
}

/// Sends all upserts in one round trip. Each segment has a statement of its own, because only a
/// statement's affected rows tell new rows (1) from merged ones (2), and the ledger counts by
/// partition.
async fn write_rows(
    connection: &mut MySqlConnection,
    texts: &Texts,
    segments: &[Segment],
    calendar: &Calendar<'_>,
) -> Result<Rows, sqlx::Error> {
    let main: Vec<Vec<(String, i64)>> =
        segments.iter().map(|segment| texts.main.main(segment)).collect();
    let periods: Vec<PeriodUpsert> =
        [texts.periods.daily(&calendar.days), texts.periods.weekly(&calendar.weeks)].concat();
    let all: Vec<&str> = main
        .iter()
        .flatten()
        .map(|(text, _)| text.as_str())
        .chain(periods.iter().map(|upsert| upsert.text.as_str()))
        .collect();
    if all.is_empty() {
        return Ok(Rows::Written(vec![0; segments.len()]));
    }
    // Every value went through `sql::Rows`, which escapes.
    let affected: Vec<i64> = sqlx::raw_sql(AssertSqlSafe(all.join(";")))
        .execute_many(connection)
        .map_ok(|result| result.rows_affected() as i64)
        .try_collect()
        .await?;
    let mut affected = affected.into_iter();
    // `deliveries` grows by every merge, so a merged row always counts 2.
    let new = |rows: i64, affected: i64| 2 * rows - affected;
    let stored = main
        .iter()
        .map(|own| {
            own.iter().map(|(_, rows)| new(*rows, affected.next().unwrap_or_default())).sum()
        })
        .collect();
    // A row that was there and changed counts 2 as well, a new one 1.
    let there = periods.iter().all(|upsert| {
        let affected = affected.next().unwrap_or_default();
        upsert.known.is_none_or(|rows| affected == 2 * rows)
    });
    Ok(if there { Rows::Written(stored) } else { Rows::Gone })
}
