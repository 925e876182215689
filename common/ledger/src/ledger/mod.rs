//! The ledger: one row of `ingest_progress` for each group and partition, moved in the same
//! transaction as the rows that it accounts for.
//!
//! The row says where a partition starts and which replica may write for it.
//!
//! Runs its own statements and returns what they found. The callers decide what follows.

mod fence;
mod group_kind;
mod row;
mod topic;

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::Arc;

use sqlx::{AssertSqlSafe, FromRow};
use tokio::sync::OnceCell;

use crate::mysql::{MySqlConnection, MySqlPool, server_version};

pub use self::fence::fence;
use self::group_kind::KIND;
pub use self::group_kind::{ClaimError, GroupKind};
pub use self::row::{LEDGER_COLUMNS, LedgerRow};
pub use self::topic::{AcceptedTopic, accepted, accepted_partitions};

/// The ledger of one consumer group on one topic.
#[derive(Debug, Clone)]
pub struct Ledger {
    pool: MySqlPool,
    kind: GroupKind,
    group: String,
    topic: String,
    owner: String,
    accepted: Arc<OnceCell<AcceptedTopic>>,
}

/// A claimed partition: its position and its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Claim {
    /// The partition.
    pub partition: i32,
    /// The number of the claim. Every claim raises it, and a replica with an older epoch is fenced.
    pub epoch: i64,
    /// The next offset to process.
    pub next_offset: i64,
    /// The offset up to which Redis is known to be current.
    pub redis_offset: i64,
}

/// Counts of what became of a range of offsets.
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
    /// Deliveries that an alerter's group, which writes no rows of its own, has evaluated.
    pub processed: i64,
}

impl Counts {
    /// Returns the number of offsets that these counts explain.
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

/// The move of one partition over `from..to`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Advance {
    /// The partition.
    pub partition: i32,
    /// The epoch of the claim.
    pub epoch: i64,
    /// The present position, which the ledger must have.
    pub from: i64,
    /// The next position.
    pub to: i64,
    /// The offset up to which Redis is current, if Redis is used.
    pub redis_offset: Option<i64>,
    /// Counts of what became of the deliveries.
    pub counts: Counts,
}

/// The ledger's position after a failed compare-and-set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerPosition {
    /// The partition has another claim, or no row: drop the batch, and claim the partition again.
    Lost,
    /// The batch was committed, and only the answer was lost.
    Committed,
    /// The ledger has another position: continue from there, under a new claim.
    At(i64),
}

impl Ledger {
    /// Creates the ledger of `group` on `topic`. Each row that this process claims names `owner`.
    pub fn new(pool: MySqlPool, kind: GroupKind, group: &str, topic: &str, owner: String) -> Self {
        Self {
            pool,
            kind,
            group: group.to_owned(),
            topic: topic.to_owned(),
            owner,
            accepted: Arc::default(),
        }
    }

    /// Returns the pool of the ledger's database.
    pub fn pool(&self) -> &MySqlPool {
        &self.pool
    }

    /// Returns the group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Returns the topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Returns this process's name in the rows that it claims.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Returns the accepted topic. The database is queried once: a process works on one topic and
    /// ends if another takes its place. Refuses a server of an unsupported version.
    pub async fn accepted(&self) -> Result<&AcceptedTopic, ClaimError> {
        self.accepted.get_or_try_init(|| self.query_accepted()).await
    }

    async fn query_accepted(&self) -> Result<AcceptedTopic, ClaimError> {
        let version = server_version::query(&mut self.pool.acquire().await?).await?;
        let checked = server_version::check(&version);
        checked.map_err(|error| ClaimError::Permanent(error.to_string()))?;
        topic::accepted(&self.pool, &self.topic).await
    }

    /// Returns the base that the ledger adds to Kafka's offsets. 0 until the accepted topic has
    /// been read.
    pub fn base(&self) -> i64 {
        self.accepted.get().map_or(0, |accepted| accepted.base)
    }

    /// Returns the rows of all partitions that were ever claimed, with the last owner of each.
    pub async fn entries(&self) -> Result<BTreeMap<i32, (LedgerRow, String)>, sqlx::Error> {
        #[derive(FromRow)]
        struct Row {
            #[sqlx(flatten)]
            entry: LedgerRow,
            owner: String,
        }
        let query = format!(
            "SELECT {LEDGER_COLUMNS}, owner FROM ingest_progress \
             WHERE consumer_group = ? AND topic = ?"
        );
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(query))
            .bind(&self.group)
            .bind(&self.topic)
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.into_iter().map(|row| (row.entry.partition, (row.entry, row.owner))).collect())
    }

    /// Returns the epoch of each partition that was ever claimed.
    pub async fn epochs(&self) -> Result<BTreeMap<i32, i64>, sqlx::Error> {
        let rows: Vec<(i32, i64)> = sqlx::query_as(
            "SELECT `partition`, epoch FROM ingest_progress WHERE consumer_group = ? AND topic = ?",
        )
        .bind(&self.group)
        .bind(&self.topic)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().collect())
    }

    /// Returns the position of a partition. `None` if the partition was never claimed.
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

    /// Fails if a service of another kind has used this group on this topic.
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

    /// Claims a partition: raises its epoch, so that the former owner is fenced. A partition
    /// without a row starts at `low_watermark`.
    ///
    /// The new epoch is greater than `former_epoch`, that of this process's former claim or 0. The
    /// row of a restored backup would repeat that epoch, and deliveries of the former claim that
    /// still wait would pass for those of the new one.
    pub async fn claim(
        &self,
        partition: i32,
        low_watermark: i64,
        former_epoch: i64,
    ) -> Result<Claim, ClaimError> {
        let mut transaction = self.pool.begin().await?;
        let query = format!(
            "INSERT INTO ingest_progress (consumer_group, topic, `partition`, first_offset, \
             next_offset, redis_offset, epoch, owner, kind) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) \
             ON DUPLICATE KEY UPDATE epoch = GREATEST(epoch, ?) + 1, owner = ?, \
             kind = COALESCE({KIND}, ?)"
        );
        sqlx::query(AssertSqlSafe(query))
            .bind(&self.group)
            .bind(&self.topic)
            .bind(partition)
            .bind(low_watermark)
            .bind(low_watermark)
            .bind(low_watermark)
            .bind(former_epoch + 1)
            .bind(&self.owner)
            .bind(self.kind.as_str())
            .bind(former_epoch)
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
        // If the kind is wrong, the rollback leaves the row to its owner.
        self.kind.check(&self.group, &kind)?;
        let claim =
            self.select(&mut transaction, partition).await?.ok_or(sqlx::Error::RowNotFound)?;
        transaction.commit().await?;
        Ok(claim)
    }

    /// Moves a partition inside the caller's transaction. Returns `false` if the ledger's position
    /// or epoch is another: roll the transaction back.
    pub async fn advance(
        &self,
        connection: &mut MySqlConnection,
        advance: &Advance,
    ) -> Result<bool, sqlx::Error> {
        let counts = &advance.counts;
        // Every move changes next_offset, so one affected row is one moved row.
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

    /// Advances `redis_offset` of a partition that no batch moves. Does nothing if another process
    /// has claimed the partition.
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

    /// Finds out what a failed compare-and-set, or a COMMIT without an answer, means for its batch.
    pub async fn position(&self, advance: &Advance) -> Result<LedgerPosition, sqlx::Error> {
        let row = self.read(advance.partition).await?;
        Ok(match row {
            Some(row) if row.epoch == advance.epoch && row.next_offset == advance.to => {
                LedgerPosition::Committed
            }
            Some(row) if row.epoch == advance.epoch => LedgerPosition::At(row.next_offset),
            _ => LedgerPosition::Lost,
        })
    }
}
