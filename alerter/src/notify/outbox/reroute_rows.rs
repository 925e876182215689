//! Adds notifications for other recipients in the place of one that was refused or whose account
//! rests, and keeps unrouted those that nobody takes.
//!
//! Runs statements inside the caller's transaction. [`crate::notify::sender`] finds the recipients.

use std::time::Duration;

use ljwx_ledger::mysql::MySqlConnection;
use sqlx::{MySql, QueryBuilder};

use crate::mysql::alert_rows::OVER;
use crate::notify::address::Recipient;
use crate::notify::outbox::notification::Notification;
use crate::notify::outbox::table::{NOW_MS, Outbox, addresses, milliseconds, push_in};
use crate::rules::channel::Channel;

/// Interval at which an unrouted notification is routed again.
const ROUTE_INTERVAL: Duration = Duration::from_secs(60);

/// Unrouted rows that are claimed at a time.
const UNROUTED_MAX: usize = 100;

impl Outbox {
    /// Claims unrouted rows that are due, and drops those among them whose episode is over. Also
    /// returns the number of dropped rows.
    pub async fn claim_unrouted(&self) -> Result<(Vec<Notification>, u64), sqlx::Error> {
        let due = format!(
            "SELECT id FROM t_alert_outbox WHERE state = 'unrouted' \
             AND next_attempt_at <= {NOW_MS} AND lease_until <= {NOW_MS} \
             ORDER BY next_attempt_at LIMIT {UNROUTED_MAX}"
        );
        let ids: Vec<i64> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(due)).fetch_all(&self.pool).await?;
        if ids.is_empty() {
            return Ok((Vec::new(), 0));
        }
        let mut over: QueryBuilder<MySql> = QueryBuilder::new(format!(
            "UPDATE t_alert_outbox AS waiting \
             JOIN t_alert_info AS alert ON alert.dedup_key = waiting.episode_key \
             SET waiting.state = 'dropped', waiting.finished_at = {NOW_MS}, \
             waiting.next_attempt_at = {NOW_MS}, waiting.last_error = 'over' \
             WHERE {OVER} AND waiting.state = 'unrouted' AND waiting.lease_until <= {NOW_MS} \
             AND waiting.id"
        ));
        push_in(&mut over, &ids);
        let dropped = over.build().execute(&self.pool).await?.rows_affected();
        Ok((self.claim_in("unrouted", &ids).await?, dropped))
    }
}

/// Adds copies of a row for other recipients. A copy of what may have arrived is marked as a repeat.
///
/// A recipient who has the notification already, or a later one of its episode, gets no copy: no
/// address gets a notification twice, and none after a later one. A row that was moved away from the
/// recipient before, or is unrouted, is due again.
pub async fn copy(
    connection: &mut MySqlConnection,
    id: i64,
    recipients: &[Recipient],
) -> Result<(), sqlx::Error> {
    // Assignments see the values set before them, so the state comes last.
    let again = |column: &str, value: &str| {
        format!(
            "t_alert_outbox.{column} = IF(t_alert_outbox.state IN ('moved', 'unrouted'), {value}, \
             t_alert_outbox.{column})"
        )
    };
    let changes = [
        again("resends", "VALUES(resends)"),
        again("payload", "''"),
        again("attempts", "0"),
        again("uncertain_since", "NULL"),
        again("finished_at", "NULL"),
        again("lease_until", "0"),
        again("next_attempt_at", NOW_MS),
        again("created_at", NOW_MS),
        again("state", "'pending'"),
    ];
    let query = format!(
        "INSERT INTO t_alert_outbox (episode_key, transition_seq, transition, recipient, user_id, \
         customer_id, device_sn, notice, payload, traceparent, severity, event_at, resends, \
         next_attempt_at, created_at) SELECT episode_key, transition_seq, transition, ?, ?, \
         customer_id, device_sn, notice, '', traceparent, severity, \
         COALESCE(event_at, created_at), resends + IF(uncertain_since IS NULL, 0, 1), \
         {NOW_MS}, {NOW_MS} FROM t_alert_outbox AS source WHERE source.id = ? AND NOT EXISTS ( \
             SELECT 1 FROM t_alert_outbox AS later WHERE later.episode_key = source.episode_key \
             AND later.transition_seq > source.transition_seq AND later.recipient = ? \
             AND (later.state IN ('sent', 'in_digest') OR later.uncertain_since IS NOT NULL \
             OR later.lease_until > {NOW_MS})) ON DUPLICATE KEY UPDATE {}",
        changes.join(", ")
    );
    for to in recipients {
        let recipient = to.address.to_string();
        sqlx::query(sqlx::AssertSqlSafe(query.clone()))
            .bind(&recipient)
            .bind(to.user_id)
            .bind(id)
            .bind(&recipient)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Whether someone is reached in the place of a row: another recipient has the same transition or a
/// later one, or the row's own was sent a later one. The watch does not count.
pub async fn is_reached(connection: &mut MySqlConnection, id: i64) -> Result<bool, sqlx::Error> {
    let query = format!(
        "SELECT COUNT(*) FROM t_alert_outbox AS source \
         JOIN t_alert_outbox AS target ON target.episode_key = source.episode_key \
         AND target.transition_seq >= source.transition_seq AND target.id <> source.id \
         WHERE source.id = ? AND target.recipient NOT LIKE '{}' \
         AND (target.state = 'sent' OR target.uncertain_since IS NOT NULL \
         OR target.state IN ('pending', 'in_digest') AND target.recipient <> source.recipient)",
        addresses(Channel::Message)
    );
    let targets: i64 =
        sqlx::query_scalar(sqlx::AssertSqlSafe(query)).bind(id).fetch_one(connection).await?;
    Ok(targets > 0)
}

/// Makes refused rows unrouted, and leaves unrouted ones so, until they are due again.
pub async fn leave_unrouted(
    connection: &mut MySqlConnection,
    ids: &[i64],
) -> Result<(), sqlx::Error> {
    let mut query: QueryBuilder<MySql> = QueryBuilder::new(format!(
        "UPDATE t_alert_outbox SET state = 'unrouted', finished_at = NULL, lease_until = 0, \
         next_attempt_at = {NOW_MS} + {} WHERE state IN ('refused', 'unrouted') AND id",
        milliseconds(ROUTE_INTERVAL)
    ));
    push_in(&mut query, ids);
    query.build().execute(connection).await?;
    Ok(())
}

/// Whether the episode still fires. The alert then stays as it is until the end of the transaction:
/// its end finds the rows that the transaction adds.
pub async fn lock_firing(
    connection: &mut MySqlConnection,
    episode_key: &str,
) -> Result<bool, sqlx::Error> {
    // The condition must not be in WHERE: the server would release the lock of an alert that fires.
    let query = format!(
        "SELECT CAST(COALESCE({OVER}, 0) AS SIGNED) FROM t_alert_info WHERE dedup_key = ? \
         LOCK IN SHARE MODE"
    );
    let over: Option<bool> = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
        .bind(episode_key)
        .fetch_optional(connection)
        .await?;
    Ok(over != Some(true))
}

/// Settles an unrouted row, because others have the notification.
pub async fn settle_unrouted(connection: &mut MySqlConnection, id: i64) -> Result<(), sqlx::Error> {
    let query = format!(
        "UPDATE t_alert_outbox SET lease_until = 0, finished_at = {NOW_MS}, \
         next_attempt_at = {NOW_MS}, state = 'refused' WHERE state = 'unrouted' AND id = ?"
    );
    sqlx::query(sqlx::AssertSqlSafe(query)).bind(id).execute(connection).await?;
    Ok(())
}
