//! Counts the rows of the main table once each, and keeps the counts in the ledger.
//!
//! A row belongs to the partition of its id. The count of a partition moves up by ranges of ids, each
//! in a short transaction. While a transaction holds the partition's row of the ledger, no batch of
//! the partition is open (`counted_rows`), so no row is counted twice or left out.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use ljwx_ledger::mysql::{MySqlConnection, MySqlPool};
use sqlx::{AssertSqlSafe, Executor, FromRow, MySql};

use super::counted_rows::{first_id, is_own};
use super::main_table::{self, MAIN_TABLE};
use crate::batch::row::source;

/// Most rows of one range: its transaction delays a batch by some tens of milliseconds.
const RANGE_ROWS: i64 = 10_000;

/// A group whose position has not moved for so many days is retired, as after a change of its name.
const RETIRED_DAYS: i64 = 7;

/// Start of the names of tables with the rows of an expired month (`expired_months`). The name of the
/// month follows, and the time at which its rows moved.
pub const EXPIRED_PREFIX: &str = "t_user_health_data_expired_";

/// The condition that a group's row in the ledger is a worker's. A row that `worker offsets` has moved before
/// the first claim has no kind, and may become an alerter's.
const OF_WORKERS: &str =
    "(kind = 'worker' OR kind IS NULL AND `stored` + merged + dead_lettered > 0)";

/// Rows and the deliveries that made them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowCount {
    pub rows: i64,
    /// Sum of their deliveries.
    pub deliveries: i64,
    /// Rows of other writers whose ids lie among the worker's.
    pub others: i64,
}

impl AddAssign for RowCount {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.deliveries += other.deliveries;
        self.others += other.others;
    }
}

/// The count of a partition, over the workers of all groups: ids name no group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionCount {
    pub partition: i32,
    /// First id that is not counted.
    pub end: i64,
    /// First id of the next partition.
    pub next_partition: i64,
    /// The counted rows, those of dropped months included.
    pub counted: RowCount,
    /// Whether the groups agree on the end. They do not if a group has joined since the last count.
    pub agreed: bool,
}

impl PartitionCount {
    /// Returns the count of a partition of which nothing is counted.
    pub fn nothing(partition: i32) -> Self {
        Self {
            partition,
            end: first_id(partition),
            next_partition: source(partition + 1, 0),
            counted: RowCount::default(),
            agreed: true,
        }
    }
}

/// Counts all rows that are not counted yet.
pub async fn count_new_rows(pool: &MySqlPool) -> Result<(), sqlx::Error> {
    let query = format!(
        "SELECT DISTINCT `partition` FROM ingest_progress WHERE {OF_WORKERS} ORDER BY `partition`"
    );
    let partitions: Vec<i32> = sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(pool).await?;
    for partition in partitions {
        while count_range(pool, partition).await? {}
    }
    Ok(())
}

/// Forgets the counts, so that the next count reads the whole table. Each row on its own: a statement
/// for all would hold the locks of some while it waits for others.
pub async fn forget_all(pool: &MySqlPool) -> Result<(), sqlx::Error> {
    let rows: Vec<(String, String, i32)> =
        sqlx::query_as("SELECT consumer_group, topic, `partition` FROM ingest_progress")
            .fetch_all(pool)
            .await?;
    for (group, topic, partition) in rows {
        sqlx::query(
            "UPDATE ingest_progress SET counted_to = 0, updated_at = updated_at \
             WHERE consumer_group = ? AND topic = ? AND `partition` = ?",
        )
        .bind(group)
        .bind(topic)
        .bind(partition)
        .execute(pool)
        .await?;
    }
    Ok(())
}

/// Returns the counts of all partitions.
pub async fn counts(connection: &mut MySqlConnection) -> Result<Vec<PartitionCount>, sqlx::Error> {
    let query = format!(
        "SELECT `partition`, MIN(counted_to), MAX(counted_to), \
         CAST(SUM(counted_rows) AS SIGNED), CAST(SUM(counted_deliveries) AS SIGNED), \
         CAST(SUM(counted_others) AS SIGNED) \
         FROM ingest_progress WHERE {OF_WORKERS} GROUP BY `partition`"
    );
    let rows: Vec<(i32, i64, i64, i64, i64, i64)> =
        sqlx::query_as(AssertSqlSafe(query)).fetch_all(connection).await?;
    let count = |(partition, least, most, rows, deliveries, others)| PartitionCount {
        end: source(partition, most).max(first_id(partition)),
        counted: RowCount { rows, deliveries, others },
        agreed: least == most,
        ..PartitionCount::nothing(partition)
    };
    Ok(rows.into_iter().map(count).collect())
}

/// Returns all rows of a partition: those that are counted, and those behind them.
pub async fn all_rows(
    connection: &mut MySqlConnection,
    count: &PartitionCount,
) -> Result<RowCount, sqlx::Error> {
    let mut all = count.counted;
    all += count_between(connection, count.end, count.next_partition).await?;
    Ok(all)
}

/// Returns the rows of dropped months by the buckets of `main_table`, those of expired months that
/// are not counted yet and erased rows (`erased_rows`) included.
pub async fn dropped_rows(
    connection: &mut MySqlConnection,
) -> Result<BTreeMap<i64, RowCount>, sqlx::Error> {
    // In this order: a table that is dropped meanwhile has been counted before.
    let waiting = expired_tables(&mut *connection).await?;
    // 0.2.0 counted a month before it dropped the month, so its count is void while the month exists.
    let recorded: Vec<(String, i64, i64, i64)> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT CAST(month AS CHAR), bucket, row_count, deliveries \
         FROM ingest_dropped_month WHERE CAST(month AS CHAR) NOT IN (\
         SELECT CAST(PARTITION_NAME AS CHAR) FROM information_schema.PARTITIONS \
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{MAIN_TABLE}' \
         AND PARTITION_NAME IS NOT NULL)"
    )))
    .fetch_all(&mut *connection)
    .await?;
    let mut dropped: BTreeMap<i64, RowCount> = BTreeMap::new();
    for (month, table) in waiting {
        if recorded.iter().any(|(recorded, ..)| *recorded == month) {
            continue;
        }
        let partitions =
            sqlx::query_scalar(main_table::PARTITIONS).fetch_one(&mut *connection).await?;
        let query = format!(
            "SELECT {} FROM {table} GROUP BY bucket",
            main_table::bucket_columns(&table, partitions)
        );
        let counts: Vec<(i64, i64, i64)> =
            sqlx::query_as(AssertSqlSafe(query)).fetch_all(&mut *connection).await?;
        for (bucket, rows, deliveries) in counts {
            *dropped.entry(bucket).or_default() += RowCount { rows, deliveries, others: 0 };
        }
    }
    for (_, bucket, rows, deliveries) in recorded {
        *dropped.entry(bucket).or_default() += RowCount { rows, deliveries, others: 0 };
    }
    Ok(dropped)
}

/// Returns the tables of expired months, each with the name by which its count is recorded.
pub async fn expired_tables<'e>(
    executor: impl Executor<'e, Database = MySql>,
) -> Result<Vec<(String, String)>, sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT CAST(TABLE_NAME AS CHAR) FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = DATABASE() AND LEFT(TABLE_NAME, CHAR_LENGTH(?)) = ? \
         ORDER BY TABLE_NAME",
    )
    .bind(EXPIRED_PREFIX)
    .bind(EXPIRED_PREFIX)
    .fetch_all(executor)
    .await?;
    let month = |table: String| Some((table.strip_prefix(EXPIRED_PREFIX)?.to_owned(), table));
    Ok(names.into_iter().filter_map(month).collect())
}

async fn count_between(
    connection: &mut MySqlConnection,
    from: i64,
    to: i64,
) -> Result<RowCount, sqlx::Error> {
    let own = is_own(MAIN_TABLE);
    let query = format!(
        "SELECT CAST(COALESCE(SUM({own}), 0) AS SIGNED), \
         CAST(COALESCE(SUM(IF({own}, deliveries, 0)), 0) AS SIGNED), \
         CAST(COALESCE(SUM(NOT {own}), 0) AS SIGNED) \
         FROM {MAIN_TABLE} FORCE INDEX (idx_id) WHERE id >= ? AND id < ?"
    );
    let (rows, deliveries, others) =
        sqlx::query_as(AssertSqlSafe(query)).bind(from).bind(to).fetch_one(connection).await?;
    Ok(RowCount { rows, deliveries, others })
}

/// A group's row of the ledger.
#[derive(Debug, FromRow)]
pub(super) struct GroupRow {
    pub(super) consumer_group: String,
    pub(super) topic: String,
    next_offset: i64,
    pub(super) counted_to: i64,
    /// Whether the position has moved lately.
    active: bool,
}

/// Counts the next range of a partition. Returns whether more rows may follow.
async fn count_range(pool: &MySqlPool, partition: i32) -> Result<bool, sqlx::Error> {
    let mut connection = ljwx_ledger::mysql::acquire(pool).await?;
    let mut transaction = connection.begin().await?;
    let groups = lock(&mut transaction, partition).await?;
    let first = groups.first().map_or(0, |group| group.counted_to);
    let next = least_position(&groups);
    // The batches of a group that has joined, or has come back, did not know what was counted: begin
    // again.
    let agreed = first <= next && groups.iter().all(|group| group.counted_to == first);
    let begin = if agreed { first } else { 0 };
    let from = source(partition, begin).max(first_id(partition));
    let end = source(partition, next);
    // A count that begins replaces the former one, even if there are no rows yet.
    if from >= end && begin > 0 {
        transaction.rollback().await?;
        return Ok(false);
    }
    let cut = if from < end { cut(&mut transaction, from, end).await? } else { None };
    let to = cut.unwrap_or(end);
    let mut count = count_between(&mut transaction, from, to).await?;
    if begin == 0 {
        let dropped = dropped_rows(&mut transaction).await?;
        count += dropped.get(&i64::from(partition)).copied().unwrap_or_default();
    }
    for (index, group) in groups.iter().enumerate() {
        let count = if index == 0 { count } else { RowCount::default() };
        let range = (begin, to - source(partition, 0));
        advance(&mut transaction, partition, group, range, count).await?;
    }
    transaction.commit().await?;
    Ok(cut.is_some())
}

/// Returns the offset before which no group inserts rows. A group that has been retired counts no
/// more: each audit would read everything that came after it.
fn least_position(groups: &[GroupRow]) -> i64 {
    let active = groups.iter().filter(|group| group.active).map(|group| group.next_offset).min();
    let latest = || groups.iter().map(|group| group.next_offset).max();
    active.or_else(latest).unwrap_or_default()
}

/// Returns the id at which a range of at most [`RANGE_ROWS`] rows ends; `None` if it has fewer.
async fn cut(
    connection: &mut MySqlConnection,
    from: i64,
    end: i64,
) -> Result<Option<i64>, sqlx::Error> {
    let query = format!(
        "SELECT id FROM {MAIN_TABLE} FORCE INDEX (idx_id) WHERE id >= ? AND id < ? \
         ORDER BY id LIMIT 1 OFFSET {RANGE_ROWS}"
    );
    sqlx::query_scalar(AssertSqlSafe(query)).bind(from).bind(end).fetch_optional(connection).await
}

/// Locks a partition's rows in the ledger, one by one: a scan would wait for other partitions.
pub(super) async fn lock(
    connection: &mut MySqlConnection,
    partition: i32,
) -> Result<Vec<GroupRow>, sqlx::Error> {
    let query = format!(
        "SELECT consumer_group, topic FROM ingest_progress \
         WHERE `partition` = ? AND {OF_WORKERS} ORDER BY consumer_group, topic"
    );
    let keys: Vec<(String, String)> =
        sqlx::query_as(AssertSqlSafe(query)).bind(partition).fetch_all(&mut *connection).await?;
    let mut groups = Vec::with_capacity(keys.len());
    for (group, topic) in keys {
        let query = format!(
            "SELECT consumer_group, topic, next_offset, counted_to, \
             updated_at > NOW() - INTERVAL {RETIRED_DAYS} DAY AS active FROM ingest_progress \
             WHERE consumer_group = ? AND topic = ? AND `partition` = ? FOR UPDATE"
        );
        let row = sqlx::query_as(AssertSqlSafe(query))
            .bind(group)
            .bind(topic)
            .bind(partition)
            .fetch_optional(&mut *connection)
            .await?;
        groups.extend(row);
    }
    Ok(groups)
}

/// Moves a group's count over the offsets from `range.0` to `range.1`. A count that begins at 0
/// replaces the former one.
async fn advance(
    connection: &mut MySqlConnection,
    partition: i32,
    group: &GroupRow,
    range: (i64, i64),
    count: RowCount,
) -> Result<(), sqlx::Error> {
    let kept = if range.0 == 0 { "0" } else { "1" };
    let query = format!(
        "UPDATE ingest_progress SET counted_to = ?, counted_rows = {kept} * counted_rows + ?, \
         counted_deliveries = {kept} * counted_deliveries + ?, \
         counted_others = {kept} * counted_others + ?, updated_at = updated_at \
         WHERE consumer_group = ? AND topic = ? AND `partition` = ?"
    );
    sqlx::query(AssertSqlSafe(query))
        .bind(range.1)
        .bind(count.rows)
        .bind(count.deliveries)
        .bind(count.others)
        .bind(&group.consumer_group)
        .bind(&group.topic)
        .bind(partition)
        .execute(connection)
        .await?;
    Ok(())
}
