//! Writes one batch to MySQL in one transaction and classifies what goes wrong. Retrying, waiting
//! and dead-lettering belong to `flush`.

use common::ledger::{Advance, Ledger};
use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, MySqlPool, Row as _};
use tokio::sync::OnceCell;

use crate::batch::{Batch, Segment};
use crate::daily;
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
    statements: OnceCell<Statements>,
}

impl Store {
    /// A store on `pool`, accounted for in `ledger`.
    pub fn new(pool: MySqlPool, ledger: Ledger) -> Self {
        Self { pool, ledger, statements: OnceCell::new() }
    }

    /// The ledger that this store's transactions move.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Writes all rows of a batch and moves its partitions, or does nothing. Returns how many rows
    /// were new, segment by segment.
    pub async fn write(&self, batch: &Batch) -> Result<Vec<i64>, WriteError> {
        let mut connection = self.pool.acquire().await?;
        let statements = self.statements(&mut connection).await?;
        let mut transaction = connection.begin().await?;
        let stored = write_rows(&mut transaction, statements, &batch.segments)
            .await
            .map_err(WriteError::of_rows)?;
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
        Ok(stored)
    }

    /// Tries whether rows would be taken, and takes them back.
    pub async fn probe(&self, segments: &[Segment]) -> Result<(), WriteError> {
        let mut connection = self.pool.acquire().await?;
        let statements = self.statements(&mut connection).await?;
        let mut transaction = connection.begin().await?;
        let tried = write_rows(&mut transaction, statements, segments).await;
        transaction.rollback().await?;
        tried.map(drop).map_err(WriteError::of_rows)
    }

    async fn statements(
        &self,
        connection: &mut MySqlConnection,
    ) -> Result<&Statements, sqlx::Error> {
        self.statements.get_or_try_init(|| read_dialect(connection)).await
    }
}

async fn read_dialect(connection: &mut MySqlConnection) -> Result<Statements, sqlx::Error> {
    let row = sqlx::query("SELECT VERSION()").fetch_one(connection).await?;
    Ok(Statements::new(Dialect::of_version(row.try_get::<&str, _>(0)?)))
}

/// Sends all upserts in one round trip. Each segment has a statement of its own, because only a
/// statement's affected rows tell new rows (1) from merged ones (2), and the ledger counts by
/// partition.
async fn write_rows(
    connection: &mut MySqlConnection,
    statements: &Statements,
    segments: &[Segment],
) -> Result<Vec<i64>, sqlx::Error> {
    let main: Vec<Vec<(String, i64)>> =
        segments.iter().map(|segment| statements.main(segment)).collect();
    let days = daily::daily(segments);
    let weeks = daily::weekly(segments);
    let all: Vec<String> = main
        .iter()
        .flatten()
        .map(|(statement, _)| statement.clone())
        .chain(statements.daily(&days))
        .chain(statements.weekly(&weeks))
        .collect();
    if all.is_empty() {
        return Ok(vec![0; segments.len()]);
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
    let stored = main.iter().map(|own| {
        own.iter().map(|(_, rows)| new(*rows, affected.next().unwrap_or_default())).sum()
    });
    Ok(stored.collect())
}
