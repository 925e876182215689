//! Writes one batch to MySQL in one transaction and classifies what goes wrong. Retrying, waiting
//! and dead-lettering belong to `flush`.

use common::ledger::{Advance, Ledger};
use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, MySqlPool, Row as _};
use tokio::sync::OnceCell;

use crate::batch::Batch;
use crate::daily;
use crate::sql::Dialect;
use crate::statements::Statements;

/// Why a batch was not written, named by the remedy.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The database cannot take it now, or not this way: hold the batch and try again.
    #[error("{0}")]
    Infrastructure(#[from] sqlx::Error),
    /// The ledger does not stand where the batch begins: ask it what that means.
    #[error("the ledger stands elsewhere for {} partition(s)", .0.len())]
    Fenced(Vec<Advance>),
}

impl WriteError {
    /// The stable word: metric label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Infrastructure(_) => "infrastructure",
            Self::Fenced(_) => "fenced",
        }
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
        let statements =
            self.statements.get_or_try_init(|| read_dialect(&mut connection)).await?.clone();
        let mut transaction = connection.begin().await?;
        let stored = write_rows(&mut transaction, &statements, batch).await?;
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
    batch: &Batch,
) -> Result<Vec<i64>, sqlx::Error> {
    let main: Vec<Option<String>> =
        batch.segments.iter().map(|segment| statements.main(segment)).collect();
    let days = daily::daily(&batch.segments);
    let weeks = daily::weekly(&batch.segments);
    let all: Vec<String> = main
        .iter()
        .flatten()
        .cloned()
        .chain(statements.daily(&days))
        .chain(statements.weekly(&weeks))
        .collect();
    if all.is_empty() {
        return Ok(vec![0; batch.segments.len()]);
    }
    // Every value went through `sql::Rows`, which escapes.
    let affected: Vec<i64> = sqlx::raw_sql(AssertSqlSafe(all.join(";")))
        .execute_many(connection)
        .map_ok(|result| result.rows_affected() as i64)
        .try_collect()
        .await?;
    let mut affected = affected.into_iter();
    let stored = batch.segments.iter().zip(&main).map(|(segment, statement)| match statement {
        // `deliveries` grows by every merge, so a merged row always counts 2.
        Some(_) => 2 * segment.rows.len() as i64 - affected.next().unwrap_or_default(),
        None => 0,
    });
    Ok(stored.collect())
}
