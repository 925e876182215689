//! Finds pending rows during a storm, and moves them into the row of a digest.
//!
//! Runs statements inside the caller's transaction. [`crate::notify::sender`] chooses the rows of
//! the digest.

use std::time::Duration;

use ljwx_ledger::mysql::MySqlConnection;
use sqlx::{FromRow, MySql, QueryBuilder};

use super::queries::MINUTE_MS;
use crate::mysql::alert_rows::EpisodeKey;
use crate::notify::notice::Notice;
use crate::notify::outbox::add::stored;
use crate::notify::outbox::notification::DIGEST;
use crate::notify::outbox::table::{NOW_MS, Outbox, milliseconds, push_in};
use crate::rules::channel::Channel;

/// Most recipients of one tenant that are read at a time.
const RECIPIENTS_MAX: usize = 200;

/// Time after a digest in which rows that waited for the next digest still become one, in
/// milliseconds. They fall due a minute after the digest, when the storm may be over.
const DIGEST_TAIL_MS: i64 = MINUTE_MS * 3 / 2;

/// Most rows of one digest. Further rows wait for the next digest.
const ROWS_MAX: usize = 1_000;

/// A pending row.
#[derive(Debug, Clone, FromRow)]
pub struct WaitingRow {
    /// The row's id.
    pub id: i64,
    /// The row's episode.
    pub episode_key: String,
    /// The row's transition.
    pub transition: String,
    /// The device's serial number.
    pub device_sn: String,
    /// The notice, as JSON.
    pub notice: String,
    /// Whether no sender has the row, it cannot have arrived, and it is not too old.
    pub free: bool,
}

impl Outbox {
    /// Returns the tenants with a storm, each with `true`: notifications of more than `episodes`
    /// episodes were written in the last minute. Tenants with a recent digest and no storm come
    /// with `false`.
    pub async fn storms(&self, episodes: u32) -> Result<Vec<(i64, bool)>, sqlx::Error> {
        let query = format!(
            "SELECT customer_id, CAST(COUNT(DISTINCT IF(transition <> '{DIGEST}' \
             AND created_at > {NOW_MS} - {MINUTE_MS}, episode_key, NULL)) AS SIGNED) AS episodes, \
             CAST(SUM(transition = '{DIGEST}') AS SIGNED) AS digests FROM t_alert_outbox \
             WHERE created_at > {NOW_MS} - {DIGEST_TAIL_MS} \
             GROUP BY customer_id HAVING episodes > ? OR digests > 0"
        );
        let rows: Vec<(i64, i64, i64)> =
            sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(episodes).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|(id, found, _)| (id, found > i64::from(episodes))).collect())
    }

    /// Returns the recipients with pending rows of the tenant. Messages to the watch have no
    /// digests.
    pub async fn waiting_recipients(&self, customer_id: i64) -> Result<Vec<String>, sqlx::Error> {
        let query = format!(
            "SELECT DISTINCT recipient FROM t_alert_outbox WHERE customer_id = ? \
             AND state = 'pending' AND transition <> '{DIGEST}' AND recipient NOT LIKE ? \
             LIMIT {RECIPIENTS_MAX}"
        );
        sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .bind(customer_id)
            .bind(format!("{}:%", Channel::Message.kind()))
            .fetch_all(&self.pool)
            .await
    }

    /// Postpones a recipient's pending rows that cannot have arrived, until `until`: a time of the
    /// server's clock in SQL. Returns the number of rows.
    pub async fn postpone(
        &self,
        (customer_id, recipient): (i64, &str),
        until: &str,
    ) -> Result<u64, sqlx::Error> {
        let found = format!(
            "SELECT id FROM t_alert_outbox WHERE customer_id = ? AND recipient = ? \
             AND state = 'pending' AND transition <> '{DIGEST}' AND next_attempt_at < {until} \
             AND uncertain_since IS NULL AND lease_until <= {NOW_MS} ORDER BY id LIMIT {ROWS_MAX}"
        );
        let ids: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(found))
            .bind(customer_id)
            .bind(recipient)
            .fetch_all(&self.pool)
            .await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let mut query: QueryBuilder<MySql> = QueryBuilder::new(format!(
            "UPDATE t_alert_outbox SET next_attempt_at = {until} \
             WHERE state = 'pending' AND lease_until <= {NOW_MS} AND id"
        ));
        push_in(&mut query, &ids);
        let postpone = query.build().execute(&self.pool).await?;
        Ok(postpone.rows_affected())
    }
}

/// Returns and locks the recipient's pending rows, in their order. Rows older than `age_max` are
/// not free. The lock keeps other replicas from grouping the rows or starting to send them.
pub async fn lock(
    connection: &mut MySqlConnection,
    (customer_id, recipient): (i64, &str),
    age_max: Duration,
) -> Result<Vec<WaitingRow>, sqlx::Error> {
    // Find the rows first, then lock them by id, in order. A concurrent caller waits and gets the
    // rest. Rows claimed in between are read as they are after the wait.
    let found = format!(
        "SELECT id FROM t_alert_outbox WHERE customer_id = ? AND recipient = ? \
         AND state = 'pending' AND transition <> '{DIGEST}' ORDER BY id LIMIT {ROWS_MAX}"
    );
    let ids: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(found))
        .bind(customer_id)
        .bind(recipient)
        .fetch_all(&mut *connection)
        .await?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut query: QueryBuilder<MySql> = QueryBuilder::new(format!(
        "SELECT id, episode_key, transition, device_sn, notice, CAST(IF(uncertain_since IS NULL \
         AND lease_until <= {NOW_MS} AND COALESCE(event_at, created_at) > {NOW_MS} - {}, 1, 0) \
         AS SIGNED) AS free \
         FROM t_alert_outbox WHERE state = 'pending' AND id",
        milliseconds(age_max)
    ));
    push_in(&mut query, &ids);
    query.push(" ORDER BY id FOR UPDATE");
    query.build_query_as().fetch_all(connection).await
}

/// Returns the time of the server's clock until which the recipient gets no other digest.
pub async fn digest_until(
    connection: &mut MySqlConnection,
    (customer_id, recipient): (i64, &str),
) -> Result<Option<i64>, sqlx::Error> {
    let query = format!(
        "SELECT CAST(MAX(created_at) + {MINUTE_MS} AS SIGNED) FROM t_alert_outbox \
         WHERE customer_id = ? AND recipient = ? AND transition = '{DIGEST}' \
         AND created_at > {NOW_MS} - {MINUTE_MS}"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(query))
        .bind(customer_id)
        .bind(recipient)
        .fetch_one(connection)
        .await
}

/// Returns the episodes of `keys` of which the recipient received a notification.
pub async fn notified_episodes(
    connection: &mut MySqlConnection,
    recipient: &str,
    keys: &[&str],
) -> Result<Vec<String>, sqlx::Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut query: QueryBuilder<MySql> = QueryBuilder::new(
        "SELECT DISTINCT episode_key FROM t_alert_outbox WHERE state = 'sent' AND recipient = ",
    );
    query.push_bind(recipient).push(" AND episode_key IN ");
    query.push_tuples(keys, |mut row, key| {
        row.push_bind(*key);
    });
    query.build_query_scalar().fetch_all(connection).await
}

/// Adds a digest and moves `members` into it. Returns false if some members were no longer pending.
/// The caller then has to roll back.
pub async fn write_digest(
    connection: &mut MySqlConnection,
    (customer_id, recipient): (i64, &str),
    notice: &Notice,
    members: &[i64],
) -> Result<bool, sqlx::Error> {
    let first = members.first().copied().unwrap_or_default();
    let query = format!(
        "INSERT INTO t_alert_outbox (episode_key, transition_seq, transition, recipient, \
         customer_id, notice, payload, next_attempt_at, created_at, severity) \
         VALUES (?, 0, '{DIGEST}', ?, ?, ?, '', {NOW_MS}, {NOW_MS}, ?)"
    );
    let digest = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(EpisodeKey::of_digest(customer_id, recipient, first).as_str())
        .bind(recipient)
        .bind(customer_id)
        .bind(stored(notice))
        .bind(notice.severity.number())
        .execute(&mut *connection)
        .await?
        .last_insert_id();
    let mut query: QueryBuilder<MySql> =
        QueryBuilder::new("UPDATE t_alert_outbox SET state = 'in_digest', digest_id = ");
    query.push_bind(i64::try_from(digest).unwrap_or(i64::MAX));
    query.push(" WHERE state = 'pending' AND id");
    push_in(&mut query, members);
    let updated = query.build().execute(connection).await?;
    Ok(updated.rows_affected() == members.len() as u64)
}
