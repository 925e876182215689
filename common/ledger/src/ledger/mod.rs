//! The ledger: one row of `ingest_progress` per group and partition, moved in the same transaction
//! as the rows it accounts for. It is where a partition starts and who may write for it.
//!
//! Runs its statements and says what it found; what follows from that belongs to the callers.

mod group_kind;
mod row;
mod topic;

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::Arc;

use sqlx::{AssertSqlSafe, FromRow};

use crate::mysql::{MySqlConnection, MySqlPool};

use tokio::sync::OnceCell;

use self::group_kind::KIND;
pub use self::group_kind::{ClaimError, Kind};
pub use self::row::{ENTRY_COLUMNS, Entry};
pub use self::topic::{Accepted, accepted};

/// The ledger of one consumer group on one topic.
#[derive(Debug, Clone)]
pub struct Ledger {
    pool: MySqlPool,
    kind: Kind,
    group: String,
    topic: String,
    owner: String,
    accepted: Arc<OnceCell<Accepted>>,
}

/// A partition taken over: from where, and under which epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Claim {
    /// The partition.
    pub partition: i32,
    /// Raised by every claim; who holds another one writes nothing any more.
    pub epoch: i64,
    /// The next offset to process.
    pub next_offset: i64,
    /// Up to where Redis is known to be current.
    pub redis_offset: i64,
}

/// What became of a stretch of deliveries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Deliveries that became a new row.
    pub stored: i64,
    /// Deliveries whose identity existed.
    pub merged: i64,
    /// Deliveries in the dead-letter topic.
    pub dead_lettered: i64,
    /// Offsets that hold no record.
    pub skipped_gap: i64,
    /// Deliveries that a group without rows of its own went through.
    pub processed: i64,
}

impl Counts {
    /// How many offsets these counts explain.
    pub fn offsets(&self) -> i64 {
        self.stored + self.merged + self.dead_lettered + self.skipped_gap + self.processed
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.stored += other.stored;
        self.merged += other.merged;
        self.dead_lettered += other.dead_lettered;
        self.skipped_gap += other.skipped_gap;
        self.processed += other.processed;
    }
}

/// One partition's move over `from..to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    /// The partition.
    pub partition: i32,
    /// The epoch it was claimed under.
    pub epoch: i64,
    /// Where the ledger must stand.
    pub from: i64,
    /// Where it will stand.
    pub to: i64,
    /// Up to where Redis is current by now, where Redis is fed.
    pub redis_offset: Option<i64>,
    /// What became of the deliveries.
    pub counts: Counts,
}

/// Where a failed compare-and-set leaves its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Another process claimed the partition: forget it.
    Lost,
    /// The batch had been committed and only the answer was lost.
    Committed,
    /// The ledger stands elsewhere: go on from there.
    At(i64),
}

impl Ledger {
    /// The ledger of `group`, which is of this kind, on `topic`; `owner` is what a row shows its holder as.
    pub fn new(pool: MySqlPool, kind: Kind, group: &str, topic: &str, owner: String) -> Self {
        Self {
            pool,
            kind,
            group: group.to_owned(),
            topic: topic.to_owned(),
            owner,
            accepted: Arc::default(),
        }
    }

    /// The database it is in.
    pub fn pool(&self) -> &MySqlPool {
        &self.pool
    }

    /// The group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The topic as it was accepted; asked once, since a process works on one topic and ends where
    /// another one takes its place.
    pub async fn accepted(&self) -> Result<&Accepted, ClaimError> {
        self.accepted.get_or_try_init(|| topic::accepted(&self.pool, &self.topic)).await
    }

    /// What the ledger's offsets are ahead of Kafka's; 0 as long as nothing has been claimed.
    pub fn base(&self) -> i64 {
        self.accepted.get().map_or(0, |accepted| accepted.base)
    }

    /// All partitions that were ever processed, with who claimed each last.
    pub async fn entries(&self) -> Result<BTreeMap<i32, (Entry, String)>, sqlx::Error> {
        #[derive(FromRow)]
        struct Row {
            #[sqlx(flatten)]
            entry: Entry,
            owner: String,
        }
        let query = format!(
            "SELECT {ENTRY_COLUMNS}, owner FROM ingest_progress \
             WHERE consumer_group = ? AND topic = ?"
        );
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(query))
            .bind(&self.group)
            .bind(&self.topic)
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.into_iter().map(|row| (row.entry.partition, (row.entry, row.owner))).collect())
    }

    /// Where a partition stands; `None` for one that was never processed.
    pub async fn read(&self, partition: i32) -> Result<Option<Claim>, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        self.select(&mut connection, partition).await
    }

    async fn select(
        &self,
        connection: &mut MySqlConnection,
        partition: i32,
    ) -> Result<Option<Claim>, sqlx::Error> {
        sqlx::query_as(
            "SELECT `partition`, epoch, next_offset, redis_offset FROM ingest_progress \
             WHERE consumer_group = ? AND topic = ? AND `partition` = ?",
        )
        .bind(&self.group)
        .bind(&self.topic)
        .bind(partition)
        .fetch_optional(connection)
        .await
    }

    /// Refuses a group in which a service of another kind has been at work on this topic.
    pub async fn check_kind(&self) -> Result<(), ClaimError> {
        let query =
            format!("SELECT {KIND} FROM ingest_progress WHERE consumer_group = ? AND topic = ?");
        let kinds: Vec<Option<String>> = sqlx::query_scalar(AssertSqlSafe(query))
            .bind(&self.group)
            .bind(&self.topic)
            .fetch_all(&self.pool)
            .await?;
        kinds.iter().flatten().try_for_each(|found| self.kind.check(&self.group, found))
    }

    /// Takes a partition over: raises its epoch, so that whoever had it can write no more. A
    /// partition without a row starts at `low_watermark`.
    pub async fn claim(&self, partition: i32, low_watermark: i64) -> Result<Claim, ClaimError> {
        let mut connection = self.pool.acquire().await?;
        let claimed = self.claim_on(&mut connection, partition, low_watermark).await;
        if matches!(claimed, Err(ClaimError::Database(_))) {
            // A server that is no longer the primary keeps its connections and refuses to write on
            // them for ever.
            connection.close_on_drop();
        }
        claimed
    }

    async fn claim_on(
        &self,
        connection: &mut MySqlConnection,
        partition: i32,
        low_watermark: i64,
    ) -> Result<Claim, ClaimError> {
        let mut transaction = connection.begin().await?;
        let query = format!(
            "INSERT INTO ingest_progress (consumer_group, topic, `partition`, first_offset, \
             next_offset, redis_offset, epoch, owner, kind) VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?) \
             ON DUPLICATE KEY UPDATE epoch = epoch + 1, owner = ?, kind = COALESCE({KIND}, ?)"
        );
        sqlx::query(AssertSqlSafe(query))
            .bind(&self.group)
            .bind(&self.topic)
            .bind(partition)
            .bind(low_watermark)
            .bind(low_watermark)
            .bind(low_watermark)
            .bind(&self.owner)
            .bind(self.kind.as_str())
            .bind(&self.owner)
            .bind(self.kind.as_str())
            .execute(&mut *transaction)
            .await?;
        let kind: String = sqlx::query_scalar(
            "SELECT kind FROM ingest_progress \
             WHERE consumer_group = ? AND topic = ? AND `partition` = ?",
        )
        .bind(&self.group)
        .bind(&self.topic)
        .bind(partition)
        .fetch_one(&mut *transaction)
        .await?;
        // What is refused is rolled back: whoever has the row keeps it.
        self.kind.check(&self.group, &kind)?;
        let claim =
            self.select(&mut transaction, partition).await?.ok_or(sqlx::Error::RowNotFound)?;
        transaction.commit().await?;
        Ok(claim)
    }

    /// Moves a partition inside the caller's transaction; `false` where the ledger does not stand
    /// where `advance` says, so that the transaction must be rolled back.
    pub async fn advance(
        &self,
        connection: &mut MySqlConnection,
        advance: &Advance,
    ) -> Result<bool, sqlx::Error> {
        let counts = &advance.counts;
        // Every successful move changes next_offset, so one row found is one row moved.
        let moved = sqlx::query(
            "UPDATE ingest_progress SET next_offset = ?, \
             redis_offset = GREATEST(redis_offset, COALESCE(?, redis_offset)), \
             `stored` = `stored` + ?, merged = merged + ?, dead_lettered = dead_lettered + ?, \
             skipped_gap = skipped_gap + ?, processed = processed + ? \
             WHERE consumer_group = ? AND topic = ? AND `partition` = ? AND epoch = ? \
             AND next_offset = ?",
        )
        .bind(advance.to)
        .bind(advance.redis_offset)
        .bind(counts.stored)
        .bind(counts.merged)
        .bind(counts.dead_lettered)
        .bind(counts.skipped_gap)
        .bind(counts.processed)
        .bind(&self.group)
        .bind(&self.topic)
        .bind(advance.partition)
        .bind(advance.epoch)
        .bind(advance.from)
        .execute(connection)
        .await?;
        Ok(moved.rows_affected() == 1)
    }

    /// Notes up to where Redis is current, for a partition that no batch moves meanwhile; does
    /// nothing where another process has it.
    pub async fn redis_current(
        &self,
        partition: i32,
        epoch: i64,
        redis_offset: i64,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE ingest_progress SET redis_offset = GREATEST(redis_offset, ?) \
             WHERE consumer_group = ? AND topic = ? AND `partition` = ? AND epoch = ?",
        )
        .bind(redis_offset)
        .bind(&self.group)
        .bind(&self.topic)
        .bind(partition)
        .bind(epoch)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// What a compare-and-set that failed, or a COMMIT without an answer, means for its batch.
    pub async fn standing(&self, advance: &Advance) -> Result<Standing, sqlx::Error> {
        let row = self.read(advance.partition).await?;
        Ok(match row {
            Some(row) if row.epoch == advance.epoch && row.next_offset == advance.to => {
                Standing::Committed
            }
            Some(row) if row.epoch == advance.epoch => Standing::At(row.next_offset),
            _ => Standing::Lost,
        })
    }
}
