//! Reads and moves the ledger's rows for `worker offsets`, all of them or none.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use ljwx_ledger::ledger::{LEDGER_COLUMNS, LedgerRow};
use ljwx_ledger::mysql::{MySqlConnection, MySqlPool};
use sqlx::AssertSqlSafe;

use super::plan::PartitionMove;

/// Owner of a moved ledger row until a worker claims the partition.
const OWNER: &str = "worker offsets";

/// Reads the group's rows.
pub async fn ledger(
    pool: &MySqlPool,
    group: &str,
    topic: &str,
) -> anyhow::Result<BTreeMap<i32, LedgerRow>> {
    let mut connection = pool.acquire().await.context("MySQL does not answer")?;
    entries(&mut connection, group, topic, "").await
}

async fn entries(
    connection: &mut MySqlConnection,
    group: &str,
    topic: &str,
    lock: &str,
) -> anyhow::Result<BTreeMap<i32, LedgerRow>> {
    let entries: Vec<LedgerRow> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT {LEDGER_COLUMNS} FROM ingest_progress \
         WHERE consumer_group = ? AND topic = ? {lock}"
    )))
    .bind(group)
    .bind(topic)
    .fetch_all(connection)
    .await
    .context("cannot read the ledger")?;
    Ok(entries.into_iter().map(|entry| (entry.partition, entry)).collect())
}

/// Moves the rows in one transaction, if all of them are still as planned. The raised epoch fences
/// the present owners of the partitions.
pub async fn execute(
    pool: &MySqlPool,
    group: &str,
    topic: &str,
    moves: &[PartitionMove],
) -> anyhow::Result<()> {
    let mut connection = pool.acquire().await.context("MySQL does not answer")?;
    let mut transaction = connection.begin().await?;
    let now = entries(&mut transaction, group, topic, "FOR UPDATE").await?;
    for planned in moves {
        let Some(moved) = planned.moved() else { continue };
        ensure!(
            now.get(&planned.partition).copied() == planned.entry,
            "partition {} moved meanwhile: nothing was changed, run it again",
            planned.partition
        );
        sqlx::query(
            "INSERT INTO ingest_progress (consumer_group, topic, `partition`, first_offset, \
             next_offset, redis_offset, epoch, owner, skipped_gap, rewound) \
             VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?, ?) ON DUPLICATE KEY UPDATE \
             next_offset = ?, redis_offset = LEAST(redis_offset, ?), epoch = epoch + 1, \
             owner = ?, skipped_gap = ?, rewound = ?, counted_to = IF(?, 0, counted_to)",
        )
        .bind(group)
        .bind(topic)
        .bind(moved.partition)
        .bind(moved.first_offset)
        .bind(moved.next_offset)
        .bind(moved.next_offset)
        .bind(OWNER)
        .bind(moved.skipped_gap)
        .bind(moved.rewound)
        .bind(moved.next_offset)
        .bind(moved.next_offset)
        .bind(OWNER)
        .bind(moved.skipped_gap)
        .bind(moved.rewound)
        // After a rewind, new rows get ids whose rows were counted already.
        .bind(planned.rewound() > 0)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await.context("nobody knows whether it was moved: look again")
}
