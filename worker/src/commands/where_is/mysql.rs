//! Reads from MySQL the row of a reading, the documents that it carried, and the group's ledger.

use anyhow::Context;
use ljwx_ledger::ledger::{LEDGER_COLUMNS, LedgerRow};
use ljwx_ledger::mysql::MySqlPool;
use sqlx::{AssertSqlSafe, FromRow, MySql};

use super::answers::{Position, SoughtReading, StoredDocument, StoredReading};
use crate::batch::row::REJECT_SOURCE;

/// The columns of documents: table, expression of the period's first day, column of this day, and
/// column of the document.
const DOCUMENTS: [(&str, &str, &str, &str); 5] = [
    ("t_user_health_data_daily", "DATE(?)", "date", "sleep_data"),
    ("t_user_health_data_daily", "DATE(?)", "date", "exercise_daily_data"),
    ("t_user_health_data_daily", "DATE(?)", "date", "workout_data"),
    ("t_user_health_data_daily", "DATE(?)", "date", "scientific_sleep_data"),
    (
        "t_user_health_data_weekly",
        "DATE_SUB(DATE(?), INTERVAL WEEKDAY(?) DAY)",
        "week_start",
        "exercise_week_data",
    ),
];

#[derive(Debug, FromRow)]
struct MainRow {
    id: i64,
    last_source: i64,
    deliveries: i64,
    user_id: Option<i64>,
    org_id: Option<i64>,
    customer_id: Option<i64>,
    created: String,
    updated: String,
}

/// Reads the row of the reading and its documents.
pub async fn stored(
    pool: &MySqlPool,
    sought: &SoughtReading,
) -> anyhow::Result<Option<StoredReading>> {
    let row: Option<MainRow> = sqlx::query_as(
        "SELECT CAST(id AS SIGNED) AS id, CAST(last_source AS SIGNED) AS last_source, \
         CAST(deliveries AS SIGNED) AS deliveries, CAST(user_id AS SIGNED) AS user_id, \
         CAST(org_id AS SIGNED) AS org_id, CAST(customer_id AS SIGNED) AS customer_id, \
         CAST(COALESCE(DATE_FORMAT(create_time, '%Y-%m-%d %H:%i:%s'), '') AS CHAR) AS created, \
         CAST(COALESCE(DATE_FORMAT(update_time, '%Y-%m-%d %H:%i:%s'), '') AS CHAR) AS updated \
         FROM t_user_health_data WHERE device_sn = ? AND timestamp = ?",
    )
    .bind(&sought.device)
    .bind(&sought.time)
    .fetch_optional(pool)
    .await
    .context("cannot read the main table")?;
    let Some(row) = row else { return Ok(None) };
    let (first, latest) = positions(row.id, row.last_source);
    Ok(Some(StoredReading {
        id: row.id,
        last_source: row.last_source,
        first,
        latest,
        deliveries: row.deliveries,
        user_id: row.user_id,
        org_id: row.org_id,
        customer_id: row.customer_id,
        create_time: row.created,
        update_time: row.updated,
        documents: documents(pool, sought).await?,
    }))
}

/// Returns the positions of a row's first and latest delivery. A row with [`REJECT_SOURCE`] has no
/// latest one. Another writer's id is not the source of a delivery, and may be above the last one.
fn positions(id: i64, last_source: i64) -> (Option<Position>, Option<Position>) {
    if last_source < id && last_source != REJECT_SOURCE {
        return (None, None);
    }
    let first = Position::of_source(id);
    (first, first.and_then(|_| Position::of_source(last_source)))
}

/// Reads which documents of the reading's day and week came with this reading.
async fn documents(
    pool: &MySqlPool,
    sought: &SoughtReading,
) -> anyhow::Result<Vec<StoredDocument>> {
    let mut found = Vec::new();
    for (table, first_day, day, column) in DOCUMENTS {
        // Device and time of the guard are the identity of the reading with the document.
        let statement = format!(
            "SELECT CAST({column}_source AS SIGNED) FROM {table} \
             WHERE device_sn = ? AND {column}_at = ? AND {day} = {first_day}"
        );
        let mut query = sqlx::query_as::<MySql, (Option<i64>,)>(AssertSqlSafe(statement))
            .bind(&sought.device)
            .bind(&sought.time);
        for _ in 0..first_day.matches('?').count() {
            query = query.bind(&sought.time);
        }
        let row =
            query.fetch_optional(pool).await.with_context(|| format!("cannot read {table}"))?;
        if let Some((source,)) = row {
            let source = source.and_then(Position::of_source);
            found.push(StoredDocument { table, column, source });
        }
    }
    Ok(found)
}

/// Reads the rows of the group in the ledger.
pub async fn ledger(pool: &MySqlPool, group: &str, topic: &str) -> anyhow::Result<Vec<LedgerRow>> {
    sqlx::query_as(AssertSqlSafe(format!(
        "SELECT {LEDGER_COLUMNS} FROM ingest_progress WHERE consumer_group = ? AND topic = ?"
    )))
    .bind(group)
    .bind(topic)
    .fetch_all(pool)
    .await
    .context("cannot read the ledger")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_replayed_rejects_has_a_first_position_and_no_latest() {
        let at = |offset: i64| Some(Position { partition: 0, offset });
        assert_eq!(positions(17, 19), (at(17), at(19)));
        assert_eq!(positions(17, REJECT_SOURCE), (at(17), None));
        for (id, last_source) in [(17, 0), (-5, 19), (-5, REJECT_SOURCE)] {
            assert_eq!(positions(id, last_source), (None, None), "{id} {last_source}");
        }
    }
}
