//! Drops expired months of the main table, and keeps the count of their rows.
//!
//! A month's rows first move to a table of their own, which takes milliseconds. They are counted
//! there, for the audit, while readings are stored. A lock for the time of the count would stop every
//! writer for as long as the server reads a month.

use jiff::Timestamp;
use ljwx_ledger::mysql::MySqlPool;
use sqlx::{AssertSqlSafe, Executor, MySqlConnection};
use tracing::info;

use super::main_table::{self, MAIN_TABLE as TABLE};
use super::row_count::{self, EXPIRED_PREFIX};

/// Drops a month. Returns whether the month is gone: not if it got rows that the audit's count does
/// not have yet.
pub(super) async fn drop_month(
    pool: &MySqlPool,
    connection: &mut MySqlConnection,
    month: &str,
) -> Result<bool, sqlx::Error> {
    row_count::count_new_rows(pool).await?;
    // Before the table is locked: writers that wait for it may hold all connections.
    let ledger = pool.acquire().await?;
    let table = format!("{EXPIRED_PREFIX}{month}_{}", Timestamp::now().as_second());
    for statement in [
        format!("CREATE TABLE {table} LIKE {TABLE}"),
        format!("ALTER TABLE {table} REMOVE PARTITIONING"),
        format!("LOCK TABLES {TABLE} WRITE, {table} WRITE"),
    ] {
        // Safe: the name is digits, like every name of a month.
        connection.execute(AssertSqlSafe(statement)).await?;
    }
    let moved = move_rows(ledger, connection, month, &table).await;
    // Unlock after a failure too: this connection is used again, for tables that it has not locked.
    connection.execute("UNLOCK TABLES").await?;
    let moved = moved?;
    count_and_drop(connection).await?;
    Ok(moved)
}

/// Moves the rows of a month to `table` and drops the month, while both tables are locked. Returns
/// whether it has. `ledger` is another connection.
async fn move_rows(
    mut ledger: ljwx_ledger::mysql::MySqlConnection,
    connection: &mut MySqlConnection,
    month: &str,
    table: &str,
) -> Result<bool, sqlx::Error> {
    // While the table is locked, no count can move. This session may not read other tables.
    for count in row_count::counts(&mut ledger).await? {
        // Safe: the name is digits.
        let query = format!(
            "SELECT id FROM {TABLE} PARTITION ({month}) FORCE INDEX (idx_id) \
             WHERE id >= ? AND id < ? LIMIT 1"
        );
        let uncounted: Option<i64> = sqlx::query_scalar(AssertSqlSafe(query))
            .bind(count.end)
            .bind(count.next_partition)
            .fetch_optional(&mut *connection)
            .await?;
        if uncounted.is_some() || !count.agreed {
            return Ok(false);
        }
    }
    for statement in [
        format!("ALTER TABLE {TABLE} EXCHANGE PARTITION {month} WITH TABLE {table}"),
        format!("ALTER TABLE {TABLE} DROP PARTITION {month}"),
    ] {
        connection.execute(AssertSqlSafe(statement)).await?;
    }
    Ok(true)
}

/// Counts the rows of the expired months that have left the main table, and drops their tables.
pub(super) async fn count_and_drop(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    for (month, table) in row_count::expired_tables(&mut *connection).await? {
        let partitions =
            sqlx::query_scalar(main_table::PARTITIONS).fetch_one(&mut *connection).await?;
        // Safe: the names of these tables are ours. A count that is made again replaces the former.
        let count = format!(
            "REPLACE INTO ingest_dropped_month (month, bucket, row_count, deliveries) \
             SELECT '{month}', {} FROM {table} GROUP BY bucket",
            main_table::bucket_columns(&table, partitions)
        );
        let counted = connection.execute(AssertSqlSafe(count)).await?.rows_affected();
        connection.execute(AssertSqlSafe(format!("DROP TABLE {table}"))).await?;
        // The table is empty if the month's rows could not move.
        if counted > 0 {
            info!(month, "rows of an expired month counted and deleted");
        }
    }
    Ok(())
}
