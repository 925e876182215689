//! Lists, retries and drops outbox rows for operators.
//!
//! Never reads or prints the message text. Rows that are being sent are left alone.

use std::time::Duration;

use ljwx_ledger::mysql::{MySqlConnection, MySqlPool};
use ljwx_ledger::platform_tables::ALERT_OVER;
use serde::Serialize;
use sqlx::{FromRow, MySql, QueryBuilder};

use super::settle::{end_rows, settle_members};
use crate::engine::episode::TransitionKind;
use crate::notify::outbox::notification::ENDS;
use crate::notify::outbox::table::{
    NOTIFIED, NOW_MS, Outbox, change, milliseconds, push_in, with_ids,
};

/// Rows changed in one transaction.
const ROWS_MAX: usize = 500;

/// Selects rows that match every field. An empty field matches all rows.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub struct OutboxFilter {
    /// The rows' states.
    #[arg(skip)]
    pub states: Vec<String>,
    /// Only notifications of this tenant.
    #[arg(long, global = true)]
    pub customer_id: Option<i64>,
    /// Only notifications to this recipient, as kind:address.
    #[arg(long, global = true)]
    pub recipient: Option<String>,
    /// Only notifications with these numbers, as `list` prints them.
    #[arg(long = "id", value_name = "ID", value_delimiter = ',', global = true)]
    pub ids: Vec<i64>,
    /// Only notifications written longer ago than this, such as 30m.
    #[arg(long, value_parser = ljwx_service::config::duration, global = true)]
    pub older_than: Option<Duration>,
    /// Leaves out rows in a digest. A digest is handled as a whole.
    #[arg(skip)]
    pub whole: bool,
}

/// A row as operators see it.
#[derive(Debug, Clone, PartialEq, FromRow, Serialize)]
pub struct OutboxRow {
    /// The row's id.
    pub id: i64,
    /// The row's state.
    pub state: String,
    /// The tenant.
    pub customer_id: i64,
    /// The recipient, as kind:address.
    pub recipient: String,
    /// The device's serial number. A digest has no device.
    pub device_sn: Option<String>,
    /// The transition, or the word for a digest.
    pub transition: String,
    /// Attempts so far.
    pub attempts: i32,
    /// Time since the row was written.
    pub age_seconds: i64,
    /// Time until the row is due. Negative: time since it fell due.
    pub due_in_seconds: i64,
    /// Whether the notification may have arrived.
    pub uncertain: bool,
    /// The digest that holds this row.
    pub digest_id: Option<i64>,
    /// The platform's last errcode.
    pub last_errcode: Option<i64>,
    /// The reason why the notification was not sent.
    pub last_error: Option<String>,
    /// Whether the notification was given up and must not start again: its alert is over, or its
    /// recipient received a later notification of the episode.
    #[serde(skip)]
    pub is_overtaken: bool,
}

impl Outbox {
    /// Returns the rows that match `filter`, oldest first, at most `limit`.
    pub async fn list(&self, filter: &OutboxFilter, limit: usize) -> sqlx::Result<Vec<OutboxRow>> {
        let mut query = select(filter, limit);
        query.build_query_as().fetch_all(&self.pool).await
    }

    /// Makes rows due now. Unrouted, dropped and failed rows start again, a digest with all its
    /// rows. Returns the number of rows, without those in digests.
    pub async fn retry(&self, ids: &[i64]) -> sqlx::Result<u64> {
        let mut retried = 0;
        // Rebuild the request unless it may have arrived: the operator may have fixed the account,
        // on which the request depends. Assignments see the values set before them, so the state
        // comes last.
        let retry = format!(
            "UPDATE t_alert_outbox SET attempts = IF(state = 'pending', attempts, 0), \
             payload = IF(uncertain_since IS NULL, '', payload), \
             finished_at = NULL, next_attempt_at = {NOW_MS}, state = 'pending' \
             WHERE state IN ('pending', 'unrouted', 'failed', 'dropped') \
             AND digest_id IS NULL AND lease_until <= {NOW_MS} AND id"
        );
        let retry_members = "UPDATE t_alert_outbox SET state = 'in_digest', finished_at = NULL \
                             WHERE state IN ('failed', 'dropped') AND digest_id";
        for ids in ids.chunks(ROWS_MAX) {
            let mut transaction = self.pool.begin().await?;
            retried += change(&mut transaction, retry.as_str(), ids).await?;
            change(&mut transaction, retry_members, ids).await?;
            transaction.commit().await?;
        }
        Ok(retried)
    }

    /// Drops pending and unrouted rows, a digest with all its rows, and logs the drop in the alerts' log.
    /// Returns the number of rows, without those in digests, and the error of the log if it has not
    /// taken every line. What was dropped stays dropped.
    pub async fn discard(
        &self,
        ids: &[i64],
        reason: &str,
    ) -> sqlx::Result<(u64, Option<sqlx::Error>)> {
        let (mut given_up, mut unlogged) = (0, None);
        for ids in ids.chunks(ROWS_MAX) {
            let mut transaction = self.pool.begin().await?;
            let waiting = lock(&mut transaction, ids).await?;
            if !waiting.is_empty() {
                let stored = format!("operator: {reason}");
                end_rows(&mut transaction, &waiting, "dropped", &stored).await?;
                settle_members(&mut transaction, &waiting).await?;
            }
            transaction.commit().await?;
            if !waiting.is_empty() {
                unlogged = log_drop(&self.pool, &waiting, reason).await.err().or(unlogged);
            }
            given_up += waiting.len() as u64;
        }
        Ok((given_up, unlogged))
    }
}

fn select(filter: &OutboxFilter, limit: usize) -> QueryBuilder<MySql> {
    let mut query = QueryBuilder::new(format!(
        "SELECT id, state, customer_id, recipient, device_sn, transition, attempts, \
         CAST(({NOW_MS} - created_at) / 1000 AS SIGNED) AS age_seconds, \
         CAST((next_attempt_at - {NOW_MS}) / 1000 AS SIGNED) AS due_in_seconds, \
         CAST(uncertain_since IS NOT NULL AS SIGNED) AS uncertain, digest_id, last_errcode, \
         last_error, CAST({} AS SIGNED) AS is_overtaken FROM t_alert_outbox WHERE 1 = 1",
        overtaken()
    ));
    if !filter.states.is_empty() {
        query.push(" AND state");
        push_in(&mut query, &filter.states);
    }
    if !filter.ids.is_empty() {
        query.push(" AND id");
        push_in(&mut query, &filter.ids);
    }
    if let Some(customer_id) = filter.customer_id {
        query.push(" AND customer_id = ").push_bind(customer_id);
    }
    if let Some(recipient) = &filter.recipient {
        query.push(" AND recipient = ").push_bind(recipient);
    }
    if let Some(age) = filter.older_than {
        query.push(format!(" AND created_at <= {NOW_MS} - {}", milliseconds(age)));
    }
    if filter.whole {
        query.push(" AND digest_id IS NULL");
    }
    query.push(format!(" ORDER BY id LIMIT {limit}"));
    query
}

/// Matches rows that must not start again. An end may, after its alert is over.
fn overtaken() -> String {
    format!(
        "state <> 'pending' AND (transition NOT IN ('{}') AND EXISTS (SELECT 1 FROM t_alert_info \
         WHERE dedup_key = t_alert_outbox.episode_key AND {ALERT_OVER}) OR EXISTS ( \
             SELECT 1 FROM t_alert_outbox AS later \
             WHERE later.episode_key = t_alert_outbox.episode_key \
             AND later.recipient = t_alert_outbox.recipient \
             AND later.transition_seq > t_alert_outbox.transition_seq AND {NOTIFIED}))",
        ENDS.map(TransitionKind::as_str).join("', '")
    )
}

/// Locks those of the rows that wait and are not being sent.
pub(super) async fn lock(connection: &mut MySqlConnection, ids: &[i64]) -> sqlx::Result<Vec<i64>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let waiting = format!(
        "SELECT id FROM t_alert_outbox WHERE state IN ('pending', 'unrouted') \
         AND lease_until <= {NOW_MS} AND id"
    );
    let mut query = with_ids(waiting, ids);
    query.push(" ORDER BY id FOR UPDATE");
    query.build_query_scalar().fetch_all(connection).await
}

async fn log_drop(pool: &MySqlPool, ids: &[i64], reason: &str) -> sqlx::Result<()> {
    let mut query: QueryBuilder<MySql> = QueryBuilder::new(
        "INSERT INTO t_alert_action_log (alert_id, action, action_timestamp, details, handled_via, \
         result, customer_id, actor, action_at) SELECT alert.id, 'drop_notification', NOW(), ",
    );
    query.push_bind(reason);
    query.push(
        ", 'outbox', 'dropped', alert.customer_id, 'operator', NOW() FROM t_alert_info AS alert \
         JOIN (SELECT DISTINCT episode_key FROM t_alert_outbox WHERE id",
    );
    push_in(&mut query, ids);
    query.push(" OR digest_id");
    push_in(&mut query, ids);
    query.push(") AS dropped ON alert.dedup_key = dropped.episode_key");
    query.build().execute(pool).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_names_only_what_it_filters_by_and_never_shows_what_is_said() {
        let all = select(&OutboxFilter::default(), 5).into_string();
        assert!(all.ends_with("WHERE 1 = 1 ORDER BY id LIMIT 5"), "{all}");
        assert!(!all.contains("payload") && !all.contains("notice"));
        let filter = OutboxFilter {
            states: vec!["failed".into(), "dropped".into()],
            ids: vec![1, 2],
            customer_id: Some(7),
            recipient: Some("openid:o1".into()),
            older_than: Some(Duration::from_secs(60)),
            whole: true,
        };
        let sql = select(&filter, 5).into_string();
        for part in
            ["state IN", "id IN", "customer_id = ?", "recipient = ?", "- 60000", "digest_id"]
        {
            assert!(sql.contains(part), "{part}: {sql}");
        }
    }
}
