//! Erases alerts with the lines of their log, and notifications.

use std::collections::BTreeSet;

use anyhow::ensure;
use ljwx_ledger::mysql::removal::{self, ROWS_MAX, id_list};
use ljwx_ledger::mysql::{MySqlConnection, MySqlPool};
use sqlx::AssertSqlSafe;

use super::parts::{ALERTS, NOTIFICATIONS};

/// Matches the rows of digests. `notify::outbox` of the alerter writes them.
const IS_DIGEST: &str = "transition = 'digest'";

/// Empties rows. Ends before their condition.
const EMPTY: &str = "UPDATE t_alert_outbox SET payload = '', notice = '{}' WHERE";

/// Notifications of one transaction.
const PAGE_ROWS: usize = 500;

/// Erases the alerts that match `condition`. Their log goes before them, also the platform's lines: it
/// is found by its alerts, and may refer to them by a foreign key.
pub async fn erase_alerts(pool: &MySqlPool, condition: &str) -> Result<(), sqlx::Error> {
    loop {
        let query = format!(
            "SELECT CAST(id AS SIGNED) FROM {ALERTS} WHERE {condition} ORDER BY id LIMIT {ROWS_MAX}"
        );
        let ids: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(pool).await?;
        if ids.is_empty() {
            return Ok(());
        }
        let ids = id_list(&ids);
        let lines =
            format!("DELETE FROM t_alert_action_log WHERE alert_id IN ({ids}) LIMIT {ROWS_MAX}");
        removal::remove_all(pool, &lines).await?;
        removal::remove(pool, &format!("DELETE FROM {ALERTS} WHERE id IN ({ids})")).await?;
    }
}

/// Returns the digests that wait to be sent and report notifications that match `condition`.
pub async fn waiting_digests(pool: &MySqlPool, condition: &str) -> Result<Vec<i64>, sqlx::Error> {
    let query = format!(
        "SELECT digest_id FROM {NOTIFICATIONS} WHERE {condition} AND digest_id IS NOT NULL"
    );
    let digests: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(pool).await?;
    let mut connection = pool.acquire().await?;
    waiting(&mut connection, &digests.into_iter().collect(), "").await
}

/// Erases the notifications that match `condition`, and the content of the digests that reported them.
/// A digest's row stays: it is how the alerter knows that other people of the digest were notified.
///
/// Digests that were taken apart lose their content too. No row says any more what they reported, and
/// nobody sends them.
pub async fn erase_notifications(pool: &MySqlPool, condition: &str) -> anyhow::Result<()> {
    loop {
        let mut transaction = pool.begin().await?;
        // In the order of the ids, in which senders lock rows.
        let query = format!(
            "SELECT id, digest_id FROM {NOTIFICATIONS} WHERE {condition} ORDER BY id \
             LIMIT {PAGE_ROWS} FOR UPDATE"
        );
        let rows: Vec<(i64, Option<i64>)> =
            sqlx::query_as(AssertSqlSafe(query)).fetch_all(&mut *transaction).await?;
        if rows.is_empty() {
            let apart = "state IN ('moved', 'refused') AND notice <> '{}'";
            let apart = format!("{EMPTY} {IS_DIGEST} AND {apart}");
            sqlx::query(AssertSqlSafe(apart)).execute(&mut *transaction).await?;
            return Ok(transaction.commit().await?);
        }
        let digests: BTreeSet<i64> = rows.iter().filter_map(|(_, digest)| *digest).collect();
        let waiting = waiting(&mut transaction, &digests, "FOR UPDATE").await?;
        ensure!(waiting.is_empty(), "{}", refusal(&waiting));
        if !digests.is_empty() {
            let digests: Vec<i64> = digests.into_iter().collect();
            let empty = format!("{EMPTY} {IS_DIGEST} AND id IN ({})", id_list(&digests));
            sqlx::query(AssertSqlSafe(empty)).execute(&mut *transaction).await?;
        }
        let ids: Vec<i64> = rows.into_iter().map(|(id, _)| id).collect();
        let delete = format!("DELETE FROM {NOTIFICATIONS} WHERE id IN ({})", id_list(&ids));
        sqlx::query(AssertSqlSafe(delete)).execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
}

/// Returns why nothing is erased while these digests wait.
pub fn refusal(digests: &[i64]) -> String {
    format!(
        "notifications wait in a digest, with those of other people: wait until the digest is sent, or \
         drop it with `alerter outbox drop` (t_alert_outbox {})",
        id_list(digests)
    )
}

async fn waiting(
    connection: &mut MySqlConnection,
    digests: &BTreeSet<i64>,
    lock: &str,
) -> Result<Vec<i64>, sqlx::Error> {
    if digests.is_empty() {
        return Ok(Vec::new());
    }
    let digests: Vec<i64> = digests.iter().copied().collect();
    let query = format!(
        "SELECT id FROM {NOTIFICATIONS} WHERE id IN ({}) AND {IS_DIGEST} AND state = 'pending' {lock}",
        id_list(&digests)
    );
    sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(connection).await
}
