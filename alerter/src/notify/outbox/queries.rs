//! Queries that precede a send: who was notified, which episodes still fire, and how much was sent
//! recently.
//!
//! Reads only, without locks.

use std::collections::{BTreeSet, HashMap};

use sqlx::{MySql, QueryBuilder, Row};

use crate::mysql::alert_rows::OVER;
use crate::notify::outbox::notification::Notification;
use crate::notify::outbox::table::{NOTIFIED, NOW_MS, Outbox, addresses};
use crate::rules::channel::Channel;

/// A minute, in milliseconds.
pub(super) const MINUTE_MS: i64 = 60_000;

/// The messages that a recipient was sent in the last minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecentSends {
    /// Number of messages.
    pub sent: i64,
    /// Time until the first of them is a minute old.
    pub frees_in_ms: i64,
}

impl Outbox {
    /// Whether the recipient received, or may have received, an earlier notification of the episode,
    /// also at another address.
    ///
    /// A message on the watch does not count for another channel. Addresses
    /// of no user, such as those for everybody, are one person only where a row moves.
    pub async fn was_notified(&self, notification: &Notification) -> Result<bool, sqlx::Error> {
        let query = format!(
            "SELECT COUNT(*) FROM t_alert_outbox AS told \
             WHERE episode_key = ? AND transition_seq < ? AND {NOTIFIED} \
             AND (recipient = ? OR user_id = ? AND recipient NOT LIKE ? AND (user_id > 0 \
             OR EXISTS (SELECT 1 FROM t_alert_outbox AS left_behind \
                 WHERE left_behind.episode_key = told.episode_key \
                 AND left_behind.transition_seq = ? AND left_behind.recipient = told.recipient \
                 AND left_behind.state = 'moved')))"
        );
        let told: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .bind(&notification.episode_key)
            .bind(notification.transition_seq)
            .bind(&notification.recipient)
            .bind(notification.user_id)
            .bind(addresses(Channel::Message))
            .bind(notification.transition_seq)
            .fetch_one(&self.pool)
            .await?;
        Ok(told > 0)
    }

    /// Whether the episode, or any episode of a digest, still fires. If the table rejected an
    /// alert, its episode has no row and counts as firing.
    pub async fn still_fires(&self, notification: &Notification) -> Result<bool, sqlx::Error> {
        let query = if notification.is_digest() {
            format!(
                "SELECT COUNT(*) FROM t_alert_outbox AS part \
                 LEFT JOIN t_alert_info AS alert ON alert.dedup_key = part.episode_key \
                 WHERE part.digest_id = ? AND (alert.dedup_key IS NULL OR NOT ({OVER}))"
            )
        } else {
            format!("SELECT NOT EXISTS (SELECT 1 FROM t_alert_info WHERE dedup_key = ? AND {OVER})")
        };
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(query));
        let firing: i64 = if notification.is_digest() {
            query.bind(notification.id).fetch_one(&self.pool).await?
        } else {
            query.bind(&notification.episode_key).fetch_one(&self.pool).await?
        };
        Ok(firing > 0)
    }

    /// Returns the messages of the last minute to these recipients, each with its tenant, by all
    /// replicas. A digest counts as one message.
    pub async fn recent(
        &self,
        recipients: &BTreeSet<(i64, String)>,
    ) -> Result<HashMap<(i64, String), RecentSends>, sqlx::Error> {
        if recipients.is_empty() {
            return Ok(HashMap::new());
        }
        let mut query: QueryBuilder<MySql> = QueryBuilder::new(format!(
            "SELECT customer_id, recipient, COUNT(*), \
             CAST(MIN(finished_at) + {MINUTE_MS} - {NOW_MS} AS SIGNED) FROM t_alert_outbox \
             WHERE state = 'sent' AND digest_id IS NULL AND finished_at > {NOW_MS} - {MINUTE_MS} \
             AND (1 = 0"
        ));
        for (customer_id, recipient) in recipients {
            query.push(" OR (customer_id = ").push_bind(*customer_id);
            query.push(" AND recipient = ").push_bind(recipient).push(")");
        }
        query.push(") GROUP BY customer_id, recipient");
        let rows = query.build().fetch_all(&self.pool).await?;
        let recent = rows.iter().map(|row| {
            let recent = RecentSends { sent: row.try_get(2)?, frees_in_ms: row.try_get(3)? };
            Ok(((row.try_get(0)?, row.try_get(1)?), recent))
        });
        recent.collect()
    }
}
