//! What a sender asks before it sends: who was told, what still fires, how much went out lately.
//!
//! Reads only; nothing here is locked.

use std::collections::HashMap;

use sqlx::{MySql, QueryBuilder, Row};

use crate::notify::outbox::notification::Notification;
use crate::notify::outbox::table::{NOW_MS, Outbox};

/// A minute of the server's clock.
pub(super) const MINUTE_MS: i64 = 60_000;

/// Rows of which nobody may have heard any more: what was sent, and what was given up while it was
/// open whether it had arrived.
const TOLD: &str =
    "(state = 'sent' OR state IN ('dropped', 'failed') AND uncertain_since IS NOT NULL)";

/// An alert that is over, whatever word the platform has for it.
const OVER: &str = "LOWER(alert_status) IN ('resolved', 'superseded', 'stale')";

/// What a recipient was sent in the last minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recent {
    /// How many.
    pub sent: i64,
    /// Time until the first of them is a minute old.
    pub frees_in_ms: i64,
}

impl Outbox {
    /// Whether anybody has received an earlier notification of the episode, or may have.
    pub async fn was_told(&self, notification: &Notification) -> Result<bool, sqlx::Error> {
        let query = format!(
            "SELECT COUNT(*) FROM t_alert_outbox \
             WHERE episode_key = ? AND transition_seq < ? AND {TOLD}"
        );
        let told: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .bind(&notification.episode_key)
            .bind(notification.transition_seq)
            .fetch_one(&self.pool)
            .await?;
        Ok(told > 0)
    }

    /// Whether the episode still fires, or one of those that a digest tells of. One whose alert the table
    /// refused has no row, and is not known to be over.
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

    /// What the recipients of these rows were sent in the last minute, by all replicas. What a digest
    /// told of is one message, the digest.
    pub async fn recent(
        &self,
        claimed: &[Notification],
    ) -> Result<HashMap<(i64, String), Recent>, sqlx::Error> {
        if claimed.is_empty() {
            return Ok(HashMap::new());
        }
        let mut query: QueryBuilder<MySql> = QueryBuilder::new(format!(
            "SELECT customer_id, recipient, COUNT(*), \
             CAST(MIN(finished_at) + {MINUTE_MS} - {NOW_MS} AS SIGNED) FROM t_alert_outbox \
             WHERE state = 'sent' AND digest_id IS NULL AND finished_at > {NOW_MS} - {MINUTE_MS} \
             AND (1 = 0"
        ));
        for one in claimed {
            query.push(" OR (customer_id = ").push_bind(one.customer_id);
            query.push(" AND recipient = ").push_bind(&one.recipient).push(")");
        }
        query.push(") GROUP BY customer_id, recipient");
        let rows = query.build().fetch_all(&self.pool).await?;
        let recent = rows.iter().map(|row| {
            let recent = Recent { sent: row.try_get(2)?, frees_in_ms: row.try_get(3)? };
            Ok(((row.try_get(0)?, row.try_get(1)?), recent))
        });
        recent.collect()
    }

    /// How many rows wait, and how old the oldest is in seconds.
    pub async fn depth(&self) -> Result<(i64, f64), sqlx::Error> {
        let query = format!(
            "SELECT COUNT(*), COALESCE({NOW_MS} - MIN(created_at), 0) FROM t_alert_outbox \
             WHERE state IN ('pending', 'folded')"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(query)).fetch_one(&self.pool).await?;
        let (count, age_ms): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok((count, age_ms as f64 / 1000.0))
    }
}
