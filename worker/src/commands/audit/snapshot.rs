//! Reads from MySQL the ledger and the rows that it counts. One consistent snapshot keeps a running
//! worker from causing a false alarm.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, ensure};
use ljwx_ledger::ledger::{LEDGER_COLUMNS, LedgerRow};
use ljwx_ledger::mysql::{MySqlConnection, MySqlPool};
use sqlx::{AssertSqlSafe, Executor, FromRow, QueryBuilder};

use crate::batch::row;
use crate::mysql::erased_rows::{self, ErasedTotals};
use crate::mysql::row_count::{PartitionCount, RowCount};
use crate::mysql::{main_table, row_count};

/// Identity of a reading as text: device and wall clock.
pub type StoredIdentity = (String, String);

/// Most identities of one query.
const IDENTITIES_MAX: usize = 200;

/// The counts of one partition, over the workers of all groups: ids name no group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExpectedRows {
    /// New rows.
    pub stored: i64,
    /// Deliveries that merged.
    pub merged: i64,
}

/// Position of the group in a partition when a recreated topic was accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq, FromRow)]
pub struct TopicGap {
    pub partition: i32,
    /// Position in the former topic.
    pub stood_at: i64,
    /// Offset at which the group continued.
    pub base: i64,
    /// Time of the acceptance, in the devices' time zone.
    pub accepted_at: String,
}

/// The state of MySQL at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The group's ledger.
    pub ledger: BTreeMap<i32, LedgerRow>,
    /// Expected counts of the rows of each partition.
    pub expected: BTreeMap<i32, ExpectedRows>,
    /// Rows whose id lies in a partition of a ledger. All counts include dropped months and erased
    /// rows.
    pub rows: BTreeMap<i32, RowCount>,
    /// Rows of dropped months and erased rows, by the buckets of `main_table`.
    pub gone: BTreeMap<i64, RowCount>,
    /// Totals of the erased rows.
    pub erased: ErasedTotals,
    /// Rows with id 0: of another writer, except for the first record of partition 0.
    pub id_zero: RowCount,
    /// Whether there are rows of other writers: adopted, or written beside this system.
    pub others: bool,
    /// Ends of former topics that were recreated.
    pub gaps: Vec<TopicGap>,
}

/// Reads the state of MySQL at one moment.
pub async fn snapshot(pool: &MySqlPool, group: &str, topic: &str) -> anyhow::Result<Snapshot> {
    let mut connection = pool.acquire().await.context("MySQL does not answer")?;
    // The session is READ COMMITTED, in which every statement has a snapshot of its own.
    for statement in [
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    ] {
        connection.execute(statement).await?;
    }
    let snapshot = read(&mut connection, group, topic).await;
    connection.execute("ROLLBACK").await?;
    snapshot
}

async fn read(
    connection: &mut MySqlConnection,
    group: &str,
    topic: &str,
) -> anyhow::Result<Snapshot> {
    let entries: Vec<LedgerRow> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT {LEDGER_COLUMNS} FROM ingest_progress WHERE consumer_group = ? AND topic = ?"
    )))
    .bind(group)
    .bind(topic)
    .fetch_all(&mut *connection)
    .await
    .context("cannot read the ledger")?;
    let expected: Vec<(i32, i64, i64)> = sqlx::query_as(
        "SELECT `partition`, CAST(SUM(`stored`) AS SIGNED), CAST(SUM(merged) AS SIGNED) \
         FROM ingest_progress GROUP BY `partition`",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut snapshot = Snapshot {
        ledger: entries.into_iter().map(|entry| (entry.partition, entry)).collect(),
        expected: expected
            .into_iter()
            .map(|(partition, stored, merged)| (partition, ExpectedRows { stored, merged }))
            .collect(),
        gaps: gaps(connection, group, topic).await?,
        erased: erased_rows::totals(connection).await?,
        ..Snapshot::default()
    };
    for count in row_count::counts(connection).await.context("cannot read what is counted")? {
        ensure!(
            count.agreed,
            "a group joined partition {} meanwhile: run it again",
            count.partition
        );
        let rows =
            row_count::all_rows(connection, &count).await.context("cannot count the rows")?;
        snapshot.rows.insert(count.partition, rows);
    }
    let partitions: i32 =
        sqlx::query_scalar(main_table::PARTITIONS).fetch_one(&mut *connection).await?;
    for partition in 0..partitions {
        if snapshot.rows.contains_key(&partition) {
            continue;
        }
        // No ledger has this partition, so its rows would be another program's.
        let count = PartitionCount::nothing(partition);
        let rows =
            row_count::all_rows(connection, &count).await.context("cannot count the rows")?;
        if rows != RowCount::default() {
            snapshot.rows.insert(partition, rows);
        }
    }
    let (mut id_zero, outside) =
        others(connection, partitions).await.context("cannot count the rows")?;
    snapshot.gone = row_count::dropped_rows(connection).await.context("cannot count the rows")?;
    id_zero += snapshot.gone.get(&main_table::ID_ZERO).copied().unwrap_or_default();
    snapshot.id_zero = id_zero;
    snapshot.others = outside
        || snapshot.gone.keys().any(|bucket| *bucket < main_table::ID_ZERO)
        || snapshot.rows.values().any(|count| count.others > 0);
    Ok(snapshot)
}

async fn gaps(
    connection: &mut MySqlConnection,
    group: &str,
    topic: &str,
) -> anyhow::Result<Vec<TopicGap>> {
    sqlx::query_as(
        "SELECT `partition`, stood_at, base, \
         CAST(DATE_FORMAT(accepted_at, '%Y-%m-%d %H:%i:%s') AS CHAR) AS accepted_at \
         FROM ingest_topic_gap WHERE consumer_group = ? AND topic = ? \
         ORDER BY ingest_topic_gap.accepted_at, `partition`",
    )
    .bind(group)
    .bind(topic)
    .fetch_all(connection)
    .await
    .context("cannot read where topics ended; run `worker migrate`")
}

/// Returns the rows with the id 0, at most two, and whether rows lie outside the ids of the worker.
async fn others(
    connection: &mut MySqlConnection,
    partitions: i32,
) -> Result<(RowCount, bool), sqlx::Error> {
    let (rows, deliveries): (i64, i64) = sqlx::query_as(
        "SELECT COUNT(*), CAST(COALESCE(SUM(deliveries), 0) AS SIGNED) FROM (SELECT deliveries \
         FROM t_user_health_data FORCE INDEX (idx_id) WHERE id = 0 LIMIT 2) AS zeros",
    )
    .fetch_one(&mut *connection)
    .await?;
    let id_zero = RowCount { rows, deliveries, others: 0 };
    let mut others = false;
    for (condition, bound) in [("id >= ?", row::source(partitions, 0)), ("id < ?", 0)] {
        let query = format!(
            "SELECT id FROM t_user_health_data FORCE INDEX (idx_id) WHERE {condition} LIMIT 1"
        );
        let found: Option<i64> = sqlx::query_scalar(AssertSqlSafe(query))
            .bind(bound)
            .fetch_optional(&mut *connection)
            .await?;
        others |= found.is_some();
    }
    Ok((id_zero, others))
}

/// Returns the identities that have a row.
pub async fn stored<'a>(
    pool: &MySqlPool,
    identities: impl IntoIterator<Item = &'a StoredIdentity>,
) -> anyhow::Result<HashSet<StoredIdentity>> {
    let identities: Vec<&StoredIdentity> = identities.into_iter().collect();
    let mut found = HashSet::new();
    for chunk in identities.chunks(IDENTITIES_MAX) {
        let mut query = QueryBuilder::new(
            "SELECT CAST(device_sn AS CHAR), \
             CAST(DATE_FORMAT(timestamp, '%Y-%m-%d %H:%i:%s') AS CHAR) \
             FROM t_user_health_data WHERE ",
        );
        for (index, (device_sn, timestamp)) in chunk.iter().enumerate() {
            // Spell the pairs out: MariaDB uses no index for a list of pairs.
            query.push(if index == 0 { "(device_sn = " } else { " OR (device_sn = " });
            query.push_bind(device_sn).push(" AND timestamp = ").push_bind(timestamp).push(")");
        }
        let rows: Vec<StoredIdentity> =
            query.build_query_as().persistent(false).fetch_all(pool).await.context("rows")?;
        found.extend(rows);
    }
    Ok(found)
}
