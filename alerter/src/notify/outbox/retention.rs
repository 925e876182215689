//! Removes finished notifications past their retention: they hold health values.

use ljwx_ledger::mysql::MySqlPool;
use ljwx_ledger::mysql::removal::{self, ROWS_MAX, id_list};
use tokio_util::sync::CancellationToken;

use crate::notify::outbox::table::NOW_MS;

/// The states of final rows.
const FINAL: &str = "('sent', 'dropped', 'failed', 'refused', 'moved')";

/// Days for which final rows are kept.
pub(crate) const KEPT_DAYS: i64 = 30;

/// Removes final rows older than `KEPT_DAYS` at an interval, until `stop`.
pub async fn remove_old(pool: MySqlPool, stop: CancellationToken) {
    removal::repeat("notifications", stop, || remove(&pool)).await;
}

async fn remove(pool: &MySqlPool) -> sqlx::Result<u64> {
    // Find the rows first, without locks, then delete them by their keys: a delete by time could
    // scan, and wait for, rows that a sender holds.
    let old = format!(
        "SELECT id FROM t_alert_outbox WHERE state IN {FINAL} AND next_attempt_at < {NOW_MS} - {} LIMIT {ROWS_MAX}",
        KEPT_DAYS * 86_400_000
    );
    let mut all = 0;
    loop {
        let ids: Vec<i64> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(old.clone())).fetch_all(pool).await?;
        if ids.is_empty() {
            return Ok(all);
        }
        // An operator may have retried a row in between.
        let delete = format!(
            "DELETE FROM t_alert_outbox WHERE id IN ({}) AND state IN {FINAL}",
            id_list(&ids)
        );
        all += removal::remove(pool, &delete).await?;
    }
}
