//! Removes alerts past their retention, with their lines in the alerts' log.
//!
//! Only removes what the alerter wrote: the platform has alerts of its own in the same tables.

use ljwx_ledger::mysql::removal::{self, ROWS_MAX, id_list};
use ljwx_ledger::mysql::sql::push_in;
use ljwx_ledger::mysql::{MySqlPool, errors};
use ljwx_ledger::platform_tables::ALERT_OVER;
use sqlx::{FromRow, QueryBuilder};
use tokio_util::sync::CancellationToken;

/// The error of a DELETE of a row that others refer to by a foreign key.
const REFERRED_TO: u16 = 1451;

/// An alert of which the removal decides.
#[derive(Debug, FromRow)]
struct AlertRow {
    id: i64,
    /// Empty if the alerter did not write the alert.
    dedup_key: String,
    is_old: bool,
    /// Whether the alert is old, over and ours.
    removable: bool,
}

/// Removes alerts that opened more than `days` ago and are over, at an interval until `stop`.
pub async fn remove_old(pool: MySqlPool, days: u32, stop: CancellationToken) {
    removal::repeat("alerts", stop, || remove(&pool, days)).await;
}

/// Walks through the alerts in the order of their ids, which is about that of their times: the
/// platform's table has no index by time. The walk ends where no alert is old.
async fn remove(pool: &MySqlPool, days: u32) -> sqlx::Result<u64> {
    let (mut all, mut after) = (0, 0);
    loop {
        let rows = next(pool, days, after).await?;
        let Some(last) = rows.last().filter(|_| rows.iter().any(|row| row.is_old)) else {
            return Ok(all);
        };
        after = last.id;
        let ids = unnotified(pool, rows).await?;
        if !ids.is_empty() {
            all += remove_alerts(pool, &id_list(&ids)).await?;
        }
    }
}

async fn next(pool: &MySqlPool, days: u32, after: i64) -> sqlx::Result<Vec<AlertRow>> {
    // The keys of episodes are 32 hexadecimal digits.
    let query = format!(
        "SELECT CAST(id AS SIGNED) AS id, COALESCE(dedup_key, '') AS dedup_key, \
         CAST(occur_at < NOW() - INTERVAL {days} DAY AS SIGNED) AS is_old, \
         CAST(COALESCE(occur_at < NOW() - INTERVAL {days} DAY AND {ALERT_OVER} \
         AND dedup_key REGEXP '^[0-9a-f]{{32}}$', 0) AS SIGNED) AS removable \
         FROM t_alert_info WHERE id > ? ORDER BY id LIMIT {ROWS_MAX}"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(after).fetch_all(pool).await
}

/// Returns the removable alerts without a notification in the outbox: a notification that is being
/// sent reads its alert.
async fn unnotified(pool: &MySqlPool, mut rows: Vec<AlertRow>) -> sqlx::Result<Vec<i64>> {
    rows.retain(|row| row.removable);
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut query =
        QueryBuilder::new("SELECT DISTINCT episode_key FROM t_alert_outbox WHERE episode_key");
    push_in(&mut query, rows.iter().map(|row| &row.dedup_key));
    let notified: Vec<String> = query.build_query_scalar().fetch_all(pool).await?;
    rows.retain(|row| !notified.contains(&row.dedup_key));
    Ok(rows.into_iter().map(|row| row.id).collect())
}

async fn remove_alerts(pool: &MySqlPool, ids: &str) -> sqlx::Result<u64> {
    // The lines first: they are found by their alert.
    let lines = format!(
        "DELETE FROM t_alert_action_log WHERE alert_id IN ({ids}) \
         AND actor IN ('alerter', 'operator') LIMIT {ROWS_MAX}"
    );
    removal::remove_all(pool, &lines).await?;
    let alerts = format!("DELETE FROM t_alert_info WHERE id IN ({ids})");
    match removal::remove(pool, &alerts).await {
        // The platform's log has a foreign key. An alert with a line of the platform stays.
        Err(error) if errors::number(&error) == Some(REFERRED_TO) => {
            let unlogged = "NOT EXISTS (SELECT 1 FROM t_alert_action_log \
                            WHERE alert_id = t_alert_info.id)";
            removal::remove(pool, &format!("{alerts} AND {unlogged}")).await
        }
        removed => removed,
    }
}
