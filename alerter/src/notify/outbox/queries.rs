//! Queries that precede a send: who was notified, which episodes still fire, and how much was sent
//! recently.
//!
//! Reads only, without locks.

use std::collections::{BTreeSet, HashMap, HashSet};

use ljwx_ledger::mysql::MySqlConnection;
use ljwx_ledger::platform_tables::ALERT_OVER;
use sqlx::{MySql, QueryBuilder};

use crate::engine::episode::TransitionKind;
use crate::notify::limits::rate_limit::{RecentSends, RecipientKey};
use crate::notify::outbox::notification::{ENDS, Notification};
use crate::notify::outbox::table::{NOW_MS, Outbox, addresses, push_in, with_ids};
use crate::rules::Channel;

/// A minute, in milliseconds.
const MINUTE_MS: i64 = 60_000;

impl Outbox {
    /// Whether the recipient was notified of the episode before this notification.
    pub async fn was_notified(&self, notification: &Notification) -> sqlx::Result<bool> {
        let mut connection = self.pool.acquire().await?;
        Ok(!notified_episodes(&mut connection, &[notification.id]).await?.is_empty())
    }

    /// Whether an earlier notification of the episode waits for the same user, also at another
    /// address. The watch does not count.
    pub async fn start_waits(&self, notification: &Notification) -> sqlx::Result<bool> {
        let query = "SELECT COUNT(*) FROM t_alert_outbox WHERE episode_key = ? \
                     AND transition_seq < ? AND user_id = ? AND recipient NOT LIKE ? \
                     AND state IN ('pending', 'in_digest')";
        let waiting: i64 = sqlx::query_scalar(query)
            .bind(&notification.episode_key)
            .bind(notification.transition_seq)
            .bind(notification.user_id)
            .bind(addresses(Channel::Message))
            .fetch_one(&self.pool)
            .await?;
        Ok(waiting > 0)
    }

    /// Whether the episode, or any episode of a digest, still fires. If the table rejected an
    /// alert, its episode has no row and counts as firing. So does an end in a digest: whoever was
    /// notified of an episode is notified of its end.
    pub async fn still_fires(&self, notification: &Notification) -> sqlx::Result<bool> {
        let query = format!(
            "SELECT COUNT(*) FROM t_alert_outbox AS part \
             LEFT JOIN t_alert_info AS alert ON alert.dedup_key = part.episode_key \
             WHERE part.{} = ? AND (part.transition IN ('{}') OR NOT COALESCE({ALERT_OVER}, 0))",
            if notification.is_digest() { "digest_id" } else { "id" },
            ENDS.map(TransitionKind::as_str).join("', '")
        );
        let firing: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .bind(notification.id)
            .fetch_one(&self.pool)
            .await?;
        Ok(firing > 0)
    }

    /// Returns the messages of the last minute to these recipients, each with its tenant, by all
    /// replicas. A digest counts as one message. What other replicas are sending counts, and what
    /// may have arrived. The rows `own` are left out.
    pub async fn recent(
        &self,
        recipients: &BTreeSet<RecipientKey>,
        own: &[i64],
    ) -> sqlx::Result<HashMap<RecipientKey, RecentSends>> {
        if recipients.is_empty() {
            return Ok(HashMap::new());
        }
        let rows: Vec<(i64, String, i64, i64)> =
            recent(recipients, own).build_query_as().fetch_all(&self.pool).await?;
        let recent = rows.into_iter().map(|(customer_id, recipient, sent, frees_in_ms)| {
            ((customer_id, recipient), RecentSends { sent, frees_in_ms })
        });
        Ok(recent.collect())
    }
}

/// Selects the number of messages in the last minute, and the time until the first of them is a
/// minute old. The indexes are named: a recipient may have a hundred thousand rows that wait.
fn recent(recipients: &BTreeSet<RecipientKey>, own: &[i64]) -> QueryBuilder<MySql> {
    let mut query = QueryBuilder::new(format!(
        "SELECT customer_id, recipient, COUNT(*), \
         CAST(MIN(counted_at) + {MINUTE_MS} - {NOW_MS} AS SIGNED) FROM ("
    ));
    let sent = ("", "finished_at", "idx_recipient", "sent");
    let uncertain = (" UNION ALL ", "uncertain_since", "idx_uncertain", "pending");
    for (union, at, index, state) in [sent, uncertain] {
        query.push(format!(
            "{union}SELECT customer_id, recipient, {at} AS counted_at FROM t_alert_outbox \
             FORCE INDEX ({index}) WHERE state = '{state}' AND digest_id IS NULL \
             AND {at} > {NOW_MS} - {MINUTE_MS} AND {at} <= {NOW_MS} AND (1 = 0"
        ));
        for (customer_id, recipient) in recipients {
            query.push(" OR (customer_id = ").push_bind(*customer_id);
            query.push(" AND recipient = ").push_bind(recipient).push(")");
        }
        query.push(")");
        if !own.is_empty() {
            query.push(" AND id NOT");
            push_in(&mut query, own);
        }
    }
    query.push(") AS recent GROUP BY customer_id, recipient");
    query
}

/// Returns those episodes of the rows of which the row's recipient received, or may have received,
/// an earlier notification, also at another address.
///
/// A message on the watch does not count for another channel. Addresses of no user, such as those
/// for everybody, are one person only where a row moves.
pub async fn notified_episodes(
    connection: &mut MySqlConnection,
    ids: &[i64],
) -> sqlx::Result<HashSet<String>> {
    let notified = format!(
        "SELECT DISTINCT waiting.episode_key FROM t_alert_outbox AS waiting \
         JOIN t_alert_outbox AS earlier ON earlier.episode_key = waiting.episode_key \
         AND earlier.transition_seq < waiting.transition_seq \
         WHERE (earlier.state = 'sent' OR earlier.uncertain_since IS NOT NULL) \
         AND (earlier.recipient = waiting.recipient OR earlier.user_id = waiting.user_id \
         AND earlier.recipient NOT LIKE '{}' AND (earlier.user_id > 0 \
         OR EXISTS (SELECT 1 FROM t_alert_outbox AS left_behind \
             WHERE left_behind.episode_key = earlier.episode_key \
             AND left_behind.transition_seq = waiting.transition_seq \
             AND left_behind.recipient = earlier.recipient AND left_behind.state = 'moved'))) \
         AND waiting.id",
        addresses(Channel::Message)
    );
    episodes(connection, notified, ids).await
}

/// Returns those episodes of the rows that are over.
pub async fn over_episodes(
    connection: &mut MySqlConnection,
    ids: &[i64],
) -> sqlx::Result<HashSet<String>> {
    let over = format!(
        "SELECT DISTINCT waiting.episode_key FROM t_alert_outbox AS waiting \
         JOIN t_alert_info AS alert ON alert.dedup_key = waiting.episode_key \
         WHERE {ALERT_OVER} AND waiting.id"
    );
    episodes(connection, over, ids).await
}

/// Returns those episodes of the rows of which `statement` finds something. It selects their keys, and
/// ends before the `IN (…)` of `ids`.
async fn episodes(
    connection: &mut MySqlConnection,
    statement: String,
    ids: &[i64],
) -> sqlx::Result<HashSet<String>> {
    let mut query = with_ids(statement, ids);
    let episodes: Vec<String> = query.build_query_scalar().fetch_all(connection).await?;
    Ok(episodes.into_iter().collect())
}
