//! Notifications that stand in MySQL until they are sent, and who sends them.
//!
//! Rows are written in the transaction of what they tell about. A sender claims rows under a lease;
//! one that dies leaves rows that another claims when the lease is over. Leases and attempts are
//! timed by the server's clock, because replicas' clocks differ.

use std::time::Duration;

use sqlx::{FromRow, MySql, MySqlConnection, MySqlPool, QueryBuilder, Row};
use uuid::Uuid;

use crate::alerts::EpisodeKey;
use crate::episode::To;

/// How long a claimed row is left to its sender: several times what one send may take.
pub const LEASE: Duration = Duration::from_secs(60);

/// How long rows are kept that are done with.
pub(crate) const KEPT_DAYS: i64 = 30;

/// Rows removed at a time.
const REMOVED_MAX: i64 = 1_000;

/// The server's clock in milliseconds.
pub(crate) const NOW_MS: &str = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)";

/// A notification to be.
#[derive(Debug)]
pub struct NewNotification {
    /// The episode.
    pub key: EpisodeKey,
    /// Which of its transitions.
    pub transition_seq: u32,
    /// What happened.
    pub to: To,
    /// Whom to tell, as kind:address.
    pub recipient: String,
    /// Whose account sends it.
    pub customer_id: i64,
    /// The request, byte for byte.
    pub payload: Vec<u8>,
    /// The span it belongs under.
    pub traceparent: Option<String>,
}

/// A claimed notification.
#[derive(Debug, Clone, FromRow)]
pub struct Notification {
    /// Number of its row.
    pub id: i64,
    /// The episode.
    pub episode_key: String,
    /// Which of its transitions.
    pub transition_seq: i32,
    /// What happened.
    pub transition: String,
    /// Whom to tell, as kind:address.
    pub recipient: String,
    /// Whose account sends it.
    pub customer_id: i64,
    /// The request, byte for byte.
    pub payload: Vec<u8>,
    /// The span it belongs under.
    pub traceparent: Option<String>,
    /// Attempts before this one.
    pub attempts: i32,
}

/// What becomes of a claimed notification.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// The platform took it.
    Sent,
    /// It is tried again after this time.
    Later(Duration),
    /// It is not to be sent any more.
    Dropped,
    /// It can never be sent.
    Failed,
}

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// What becomes of the notification.
    pub fate: Fate,
    /// Whether the platform was asked at all.
    pub asked: bool,
    /// What it answered.
    pub errcode: Option<i64>,
    /// Why it was not sent.
    pub error: Option<String>,
}

/// Adds a notification; one that is there already stays as it is.
pub async fn add(
    connection: &mut MySqlConnection,
    notification: &NewNotification,
) -> Result<(), sqlx::Error> {
    let query = format!(
        "INSERT INTO t_alert_outbox (episode_key, transition_seq, transition, recipient, \
         customer_id, payload, traceparent, next_attempt_at, created_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, {NOW_MS}, {NOW_MS}) \
         ON DUPLICATE KEY UPDATE episode_key = episode_key"
    );
    sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(notification.key.as_str())
        .bind(notification.transition_seq)
        .bind(notification.to.as_str())
        .bind(&notification.recipient)
        .bind(notification.customer_id)
        .bind(&notification.payload)
        .bind(&notification.traceparent)
        .execute(connection)
        .await?;
    Ok(())
}

/// The outbox as its senders see it.
#[derive(Debug, Clone)]
pub struct Outbox {
    pool: MySqlPool,
}

impl Outbox {
    /// The outbox in this database.
    pub fn new(pool: MySqlPool) -> Self {
        Self { pool }
    }

    /// Takes at most `max` rows that are due; nobody else sends them until the lease is over. Of
    /// one episode and recipient only the first waiting row is due, so that nobody reads of an end
    /// before its beginning.
    pub async fn claim(&self, max: usize) -> Result<Vec<Notification>, sqlx::Error> {
        let due = format!(
            "SELECT id FROM t_alert_outbox AS due \
             WHERE state = 'pending' AND next_attempt_at <= {NOW_MS} AND lease_until <= {NOW_MS} \
             AND NOT EXISTS (SELECT 1 FROM t_alert_outbox AS earlier \
                 WHERE earlier.episode_key = due.episode_key AND earlier.recipient = due.recipient \
                 AND earlier.transition_seq < due.transition_seq AND earlier.state = 'pending') \
             ORDER BY next_attempt_at LIMIT {max}"
        );
        let ids: Vec<i64> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(due)).fetch_all(&self.pool).await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        // Others may have found the same rows: only the first one's update finds them free.
        let claim = Uuid::new_v4().simple().to_string();
        let mut take: QueryBuilder<MySql> =
            QueryBuilder::new("UPDATE t_alert_outbox SET lease_owner = ");
        take.push_bind(&claim);
        take.push(format!(", lease_until = {NOW_MS} + {}", LEASE.as_millis()));
        take.push(format!(" WHERE state = 'pending' AND lease_until <= {NOW_MS} AND id IN "));
        take.push_tuples(&ids, |mut row, id| {
            row.push_bind(id);
        });
        take.build().persistent(false).execute(&self.pool).await?;
        sqlx::query_as(
            "SELECT id, episode_key, transition_seq, transition, recipient, customer_id, payload, \
             traceparent, attempts FROM t_alert_outbox WHERE lease_owner = ? ORDER BY id",
        )
        .bind(&claim)
        .fetch_all(&self.pool)
        .await
    }

    /// Whether anybody has received an earlier notification of the episode.
    pub async fn was_told(&self, notification: &Notification) -> Result<bool, sqlx::Error> {
        let told: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM t_alert_outbox \
             WHERE episode_key = ? AND transition_seq < ? AND state = 'sent'",
        )
        .bind(&notification.episode_key)
        .bind(notification.transition_seq)
        .fetch_one(&self.pool)
        .await?;
        Ok(told > 0)
    }

    /// Writes down what an attempt came to and lets go of the row.
    pub async fn settle(
        &self,
        notification: &Notification,
        attempt: &Attempt,
    ) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        let (state, delay, finished) = match &attempt.fate {
            Fate::Sent => ("sent", Duration::ZERO, true),
            Fate::Later(delay) => ("pending", *delay, false),
            Fate::Dropped => ("dropped", Duration::ZERO, true),
            Fate::Failed => ("failed", Duration::ZERO, true),
        };
        let query = format!(
            "UPDATE t_alert_outbox SET state = ?, attempts = attempts + ?, lease_until = 0, \
             next_attempt_at = {NOW_MS} + ?, last_errcode = ?, last_error = ?, \
             finished_at = IF(?, {NOW_MS}, NULL) WHERE id = ? AND state = 'pending'"
        );
        sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(state)
            .bind(i32::from(attempt.asked))
            .bind(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX))
            .bind(attempt.errcode)
            .bind(attempt.error.as_deref().map(|error| crate::message::cut(error, 255)))
            .bind(finished)
            .bind(notification.id)
            .execute(&mut *transaction)
            .await?;
        if attempt.fate == Fate::Sent {
            crate::alerts::notified(&mut transaction, &notification.episode_key).await?;
        }
        transaction.commit().await
    }

    /// Adds to the alert's log that somebody tried to tell, and what came of it.
    pub async fn log(
        &self,
        notification: &Notification,
        attempt: &Attempt,
    ) -> Result<(), sqlx::Error> {
        let result = if attempt.fate == Fate::Sent { "success" } else { "failed" };
        let details = match (attempt.errcode, &attempt.error) {
            (Some(errcode), Some(error)) => format!("errcode {errcode}: {error}"),
            (_, Some(error)) => error.clone(),
            _ => notification.transition.clone(),
        };
        sqlx::query(
            "INSERT INTO t_alert_action_log (alert_id, action, action_timestamp, details, \
             handled_via, result, notification_type, retry_attempt, customer_id, channel, actor, \
             action_at) SELECT id, 'notify', NOW(), ?, 'wechat', ?, 'wechat', ?, ?, \
             'wechat_official', 'alerter', NOW() FROM t_alert_info WHERE dedup_key = ?",
        )
        .bind(details)
        .bind(result)
        .bind(notification.attempts)
        .bind(notification.customer_id)
        .bind(&notification.episode_key)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// How many rows wait, and how old the oldest is in seconds.
    pub async fn depth(&self) -> Result<(i64, f64), sqlx::Error> {
        let query = format!(
            "SELECT COUNT(*), COALESCE({NOW_MS} - MIN(created_at), 0) FROM t_alert_outbox \
             WHERE state = 'pending'"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(query)).fetch_one(&self.pool).await?;
        let (count, age_ms): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok((count, age_ms as f64 / 1000.0))
    }

    /// Removes rows that are long done with.
    pub async fn remove_old(&self) -> Result<u64, sqlx::Error> {
        let query = format!(
            "DELETE FROM t_alert_outbox WHERE state IN ('sent', 'dropped', 'failed') \
             AND next_attempt_at < {NOW_MS} - {} LIMIT {REMOVED_MAX}",
            KEPT_DAYS * 86_400_000
        );
        let removed = sqlx::query(sqlx::AssertSqlSafe(query)).execute(&self.pool).await?;
        Ok(removed.rows_affected())
    }
}
