//! Fences the owners of a partition, so that they read again what an operator's command changes.

use sqlx::AssertSqlSafe;

use super::group_kind::{GroupKind, KIND};
use crate::mysql::MySqlConnection;

/// Raises the epoch of a partition for all groups of this kind, inside the caller's transaction.
///
/// The owners then write nothing of what they remember. They notice at their next write, or within
/// 10 s, claim the partition again, and read its state anew. Positions do not move.
pub async fn fence(
    connection: &mut MySqlConnection,
    kind: GroupKind,
    topic: &str,
    partition: i32,
) -> Result<(), sqlx::Error> {
    let query = format!(
        "SELECT consumer_group FROM ingest_progress \
         WHERE topic = ? AND `partition` = ? AND {KIND} = ? ORDER BY consumer_group"
    );
    let groups: Vec<String> = sqlx::query_scalar(AssertSqlSafe(query))
        .bind(topic)
        .bind(partition)
        .bind(kind.as_str())
        .fetch_all(&mut *connection)
        .await?;
    // By their keys: a scan would wait for the rows of other partitions.
    for group in groups {
        sqlx::query(
            "UPDATE ingest_progress SET epoch = epoch + 1 \
             WHERE consumer_group = ? AND topic = ? AND `partition` = ?",
        )
        .bind(group)
        .bind(topic)
        .bind(partition)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
