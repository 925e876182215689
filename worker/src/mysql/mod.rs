//! Writes one batch to MySQL in one transaction and classifies what goes wrong. Retrying, waiting
//! and dead-lettering belong to `flush`.

pub mod bisect;
pub mod buckets;
pub mod daily_weekly;
pub mod device_ids;
pub mod group_control;
pub mod main_table;
pub mod monthly_partitions;
pub mod newest_rows;
pub mod packet_limit;

use futures_util::TryStreamExt;
use ljwx_ledger::ledger::{Advance, Counts, Ledger};
use ljwx_ledger::mysql::errors::{self, Remedy};
use ljwx_ledger::mysql::sql::Dialect;
use ljwx_ledger::mysql::{MySqlConnection, MySqlPool};
use sqlx::{AssertSqlSafe, Row as _};
use tokio::sync::OnceCell;

use crate::batch::row::Identity;
use crate::batch::{Batch, Segment};
use crate::mysql::daily_weekly::{Calendar, PeriodStatements, PeriodUpsert, Remembered};
use crate::mysql::main_table::Statements;
use crate::mysql::packet_limit::{Packet, joined};

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
        /// The moves of a COMMIT that was not answered, so that they may have been made; else none.
        unanswered: Vec<Advance>,
    },
    /// A value is refused: find the deliveries it is in.
    #[error("{code}: {message}")]
    Data {
        /// Number and SQLSTATE.
        code: String,
        /// What the database said, without the value.
        message: String,
        /// The row that it named, not tried on its own.
        suspect: Option<Identity>,
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
    fn of_rows(error: sqlx::Error, suspect: Option<Identity>) -> Self {
        match errors::remedy(&error) {
            Remedy::Data => Self::Data {
                code: errors::code(&error).unwrap_or_default(),
                message: errors::message(&error),
                suspect,
            },
            _ => error.into(),
        }
    }

    fn held(error: &sqlx::Error, unanswered: Vec<Advance>) -> Self {
        let remedy = match errors::remedy(error) {
            Remedy::Data => Remedy::Infrastructure,
            remedy => remedy,
        };
        Self::Held { remedy, message: errors::message(error), unanswered }
    }
}

/// Of everything else: the ledger's row, the transaction itself.
impl From<sqlx::Error> for WriteError {
    fn from(error: sqlx::Error) -> Self {
        Self::held(&error, Vec::new())
    }
}

/// The tables of the readings and their ledger.
pub struct Store {
    pool: MySqlPool,
    ledger: Ledger,
    texts: OnceCell<Texts>,
    remembered: Remembered,
    packet: Packet,
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
        Self {
            pool,
            ledger,
            texts: OnceCell::new(),
            remembered: Remembered::new(),
            packet: Packet::default(),
        }
    }

    /// The ledger that this store's transactions move.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Writes all rows of a batch and moves its partitions, or does nothing. Returns what became of
    /// the deliveries, segment by segment.
    pub async fn write(&self, batch: &Batch) -> Result<Vec<Counts>, WriteError> {
        let written = self.try_write(batch).await;
        self.ask_again_after(&written);
        written
    }

    async fn try_write(&self, batch: &Batch) -> Result<Vec<Counts>, WriteError> {
        let whole = Calendar::of(&batch.segments);
        let rest = self.remembered.rest(&whole);
        let counts = match self.transact(batch, &rest).await? {
            Some(counts) => counts,
            None => {
                self.remembered.forget(&whole);
                self.transact(batch, &whole).await?.unwrap_or_default()
            }
        };
        self.remembered.committed(&whole);
        self.remembered.show();
        Ok(counts)
    }

    /// `None` where nothing was written because a period was gone.
    async fn transact(
        &self,
        batch: &Batch,
        calendar: &Calendar<'_>,
    ) -> Result<Option<Vec<Counts>>, WriteError> {
        let mut connection = ljwx_ledger::mysql::acquire(&self.pool).await?;
        let written = self.transact_on(&mut connection, batch, calendar).await;
        if matches!(written, Err(WriteError::Held { .. })) {
            // Where another server is the primary now, the one before keeps its connections and
            // refuses to write on them for ever.
            connection.close_on_drop();
        }
        written
    }

    async fn transact_on(
        &self,
        connection: &mut MySqlConnection,
        batch: &Batch,
        calendar: &Calendar<'_>,
    ) -> Result<Option<Vec<Counts>>, WriteError> {
        let texts = self.texts(connection).await?;
        let text_max = self.packet.text_max(connection).await?;
        let mut transaction = connection.begin().await?;
        let segments = &batch.segments;
        let written = write_rows(&mut transaction, texts, segments, calendar, text_max).await;
        let stored = match written {
            Ok(Rows::Written(stored)) => stored,
            Ok(Rows::Gone) => {
                transaction.rollback().await?;
                return Ok(None);
            }
            Err(error @ WriteError::Data { .. }) => {
                // The next attempt needs a connection as well, and this one is sound.
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

    /// Tries whether rows would be taken, and takes them back.
    pub async fn probe(&self, segments: &[Segment]) -> Result<(), WriteError> {
        let tried = self.try_probe(segments).await;
        self.ask_again_after(&tried);
        tried
    }

    async fn try_probe(&self, segments: &[Segment]) -> Result<(), WriteError> {
        let mut connection = self.pool.acquire().await?;
        let texts = self.texts(&mut connection).await?;
        let text_max = self.packet.text_max(&mut connection).await?;
        let mut transaction = connection.begin().await?;
        let calendar = Calendar::of(segments);
        let tried = write_rows(&mut transaction, texts, segments, &calendar, text_max).await;
        transaction.rollback().await?;
        tried.map(drop)
    }

    fn ask_again_after<T>(&self, result: &Result<T, WriteError>) {
        if matches!(result, Err(WriteError::Held { .. })) {
            self.packet.ask_again();
        }
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

/// Sends all upserts in one round trip, or in as few as `text_max` allows. Each segment has
/// statements of its own, because only a statement's affected rows tell new rows (1) from merged
/// ones (2), and the ledger counts by partition.
async fn write_rows(
    connection: &mut MySqlConnection,
    texts: &Texts,
    segments: &[Segment],
    calendar: &Calendar<'_>,
    text_max: usize,
) -> Result<Rows, WriteError> {
    let mut all = Vec::new();
    let mut rows: Vec<Vec<i64>> = Vec::with_capacity(segments.len());
    for segment in segments {
        let (main, counts): (Vec<_>, _) = texts.main.main(segment, text_max).into_iter().unzip();
        all.extend(main);
        rows.push(counts);
    }
    let (periods, known): (Vec<_>, Vec<_>) = texts
        .periods
        .upserts(calendar, text_max)
        .into_iter()
        .map(|PeriodUpsert { text, known }| (text, known))
        .unzip();
    all.extend(periods);
    let mut affected = Vec::with_capacity(all.len());
    for text in joined(all, text_max) {
        // Every value went through `sql::Rows`, which escapes.
        let mut results = sqlx::raw_sql(AssertSqlSafe(text)).execute_many(&mut *connection);
        loop {
            match results.try_next().await {
                Ok(Some(result)) => affected.push(result.rows_affected() as i64),
                Ok(None) => break,
                Err(error) => {
                    let suspect = errors::row(&error)
                        .and_then(|row| Statements::named(segments, &rows, affected.len(), row));
                    return Err(WriteError::of_rows(error, suspect.cloned()));
                }
            }
        }
    }
    let mut affected = affected.into_iter();
    // `deliveries` grows by every merge, so a merged row always counts 2.
    let mut new = |rows: i64| 2 * rows - affected.next().unwrap_or_default();
    let stored = rows.into_iter().map(|own| own.into_iter().map(&mut new).sum()).collect();
    // A row that was there and changed counts 2 as well, a new one 1.
    let there = known.into_iter().all(|known| {
        let affected = affected.next().unwrap_or_default();
        known.is_none_or(|rows| affected == 2 * rows)
    });
    Ok(if there { Rows::Written(stored) } else { Rows::Gone })
}
