//! Adds notifications for other recipients in the place of one that was refused or whose account
//! does not send, and keeps unrouted those that nobody takes.
//!
//! [`crate::notify::sender`] finds the recipients.

use std::collections::BTreeSet;
use std::time::Duration;

use ljwx_ledger::mysql::MySqlConnection;
use ljwx_ledger::platform_tables::ALERT_OVER;
use sqlx::{FromRow, MySql, QueryBuilder};

use super::operate::lock;
use super::settle::{dissolve, end_rows};
use crate::notify::address::Recipient;
use crate::notify::outbox::notification::{DIGEST, Notification};
use crate::notify::outbox::table::{NOW_MS, Outbox, addresses, milliseconds, push_in};
use crate::rules::{Channel, Severity};

/// Interval at which an unrouted notification is routed again.
const ROUTE_INTERVAL: Duration = Duration::from_secs(60);

/// Unrouted rows that are claimed at a time.
const UNROUTED_MAX: usize = 100;

/// Time within which addresses refuse if their account is the cause.
pub const REFUSALS_WINDOW: Duration = Duration::from_secs(10 * 60);

/// The states from which a row is due again if its recipient refused, so that no recipient is tried
/// again while caches differ.
pub const ONLY_MOVED: &str = "('moved')";

/// The states from which a row is due again if its recipient is found later.
pub const SET_ASIDE: &str = "('moved', 'refused', 'unrouted')";

/// Rows that wait for their account that are read at a time.
pub const STRANDED_MAX: usize = 500;

/// Wait of a critical notification before it leaves an account that is at a limit.
const CRITICAL_WAIT: Duration = Duration::from_secs(10);

/// A row that waits for its account.
#[derive(Debug, Clone, FromRow)]
pub struct StrandedRow {
    /// The row's id.
    pub id: i64,
    /// The user whose address it is. `None`: an older version wrote the row, or it is a digest.
    pub user_id: Option<i64>,
    /// The notice, as JSON.
    pub notice: String,
    /// Whether the row is a digest.
    pub is_digest: bool,
}

impl Outbox {
    /// Claims unrouted rows that are due.
    pub async fn claim_unrouted(&self) -> sqlx::Result<Vec<Notification>> {
        let due = format!(
            "SELECT id FROM t_alert_outbox WHERE state = 'unrouted' \
             AND next_attempt_at <= {NOW_MS} AND lease_until <= {NOW_MS} \
             ORDER BY next_attempt_at LIMIT {UNROUTED_MAX}"
        );
        let ids: Vec<i64> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(due)).fetch_all(&self.pool).await?;
        self.claim("unrouted", &ids).await
    }

    /// Counts the addresses of these tenants on a channel that refused within [`REFUSALS_WINDOW`],
    /// since the last one accepted.
    pub async fn refusals(&self, customers: &BTreeSet<i64>, channel: Channel) -> sqlx::Result<i64> {
        let window = REFUSALS_WINDOW.as_secs();
        let mut query: QueryBuilder<MySql> = QueryBuilder::new(format!(
            "SELECT COUNT(DISTINCT address) FROM t_alert_recipient_address \
             WHERE kind = '{}' AND disabled_at > COALESCE((\
                 SELECT FROM_UNIXTIME(MAX(next_attempt_at) / 1000) FROM t_alert_outbox \
                 WHERE state = 'sent' AND next_attempt_at > {NOW_MS} - {window} * 1000 \
                 AND recipient LIKE '{}' AND customer_id",
            channel.kind(),
            addresses(channel)
        ));
        push_in(&mut query, customers);
        query.push(format!("), NOW() - INTERVAL {window} SECOND) AND customer_id"));
        push_in(&mut query, customers);
        query.build_query_scalar().fetch_one(&self.pool).await
    }

    /// Returns the tenants and kinds of address that refused within [`REFUSALS_WINDOW`], each with an
    /// errcode.
    pub async fn refusing(&self) -> sqlx::Result<Vec<(i64, String, Option<i64>)>> {
        let query = format!(
            "SELECT customer_id, kind, CAST(MAX(disabled_errcode) AS SIGNED) \
             FROM t_alert_recipient_address WHERE disabled_at > NOW() - INTERVAL {} SECOND \
             GROUP BY customer_id, kind",
            REFUSALS_WINDOW.as_secs()
        );
        sqlx::query_as(sqlx::AssertSqlSafe(query)).fetch_all(&self.pool).await
    }

    /// Returns the pending rows of a tenant on a channel after the row `after`, in their order, at
    /// most [`STRANDED_MAX`]. `critical`: only those that are critical and have waited, with the other
    /// rows of their episodes, whose order stays.
    pub async fn stranded(
        &self,
        (customer_id, channel): (i64, Channel),
        after: i64,
        critical: bool,
    ) -> sqlx::Result<Vec<StrandedRow>> {
        stranded(customer_id, channel, after, critical).build_query_as().fetch_all(&self.pool).await
    }

    /// Returns the rows that the message of `leader` reports beside its own: the user whose address
    /// each has, and the notice, as JSON.
    pub async fn members(&self, leader: i64) -> sqlx::Result<Vec<(Option<i64>, String)>> {
        let query = "SELECT user_id, notice FROM t_alert_outbox WHERE digest_id = ? ORDER BY id";
        sqlx::query_as(query).bind(leader).fetch_all(&self.pool).await
    }

    /// Makes a tenant's pending rows on a channel due, because their account was changed. Otherwise
    /// they would wait as long as they would for the account of before.
    pub async fn make_due(&self, (customer_id, channel): (i64, Channel)) -> sqlx::Result<()> {
        let query = format!(
            "UPDATE t_alert_outbox SET next_attempt_at = {NOW_MS} WHERE customer_id = ? \
             AND state = 'pending' AND recipient LIKE ? AND next_attempt_at > {NOW_MS} \
             AND lease_until <= {NOW_MS}"
        );
        sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(customer_id)
            .bind(addresses(channel))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Moves rows to their recipients. A row stays if none of its recipients can have it: their own
    /// rows are final. The rows of `digests`, and those folded into moved rows, are taken out, to be
    /// moved by themselves. Returns the number of rows that were moved.
    pub async fn relocate(
        &self,
        moves: &[(i64, Vec<Recipient>)],
        digests: &[i64],
    ) -> sqlx::Result<u64> {
        let ids: Vec<i64> = moves.iter().map(|(id, _)| *id).collect();
        let mut transaction = self.pool.begin().await?;
        let digests = lock(&mut transaction, digests).await?;
        dissolve(&mut transaction, &digests, "pending").await?;
        let ids = lock(&mut transaction, &ids).await?;
        let mut moved = Vec::new();
        for (id, recipients) in moves.iter().filter(|(id, _)| ids.contains(id)) {
            copy(&mut transaction, *id, recipients, SET_ASIDE).await?;
            if is_reached(&mut transaction, *id, Some(recipients)).await? {
                moved.push(*id);
            }
        }
        dissolve(&mut transaction, &moved, "pending").await?;
        let left = [&digests[..], &moved[..]].concat();
        end_rows(&mut transaction, &left, "moved", "account does not send").await?;
        transaction.commit().await?;
        Ok(moved.len() as u64)
    }
}

/// Selects rows that wait for an account. The indexes are named: a server that guesses from the
/// recipients would read all that the tenant was ever sent.
fn stranded(customer_id: i64, channel: Channel, after: i64, critical: bool) -> QueryBuilder<MySql> {
    let mut query = QueryBuilder::new(format!(
        "SELECT waiting.id, waiting.user_id, waiting.notice, \
         CAST(waiting.transition = '{DIGEST}' AS SIGNED) AS is_digest FROM "
    ));
    if critical {
        query.push(format!(
            "(SELECT DISTINCT episode_key, recipient FROM t_alert_outbox \
                 FORCE INDEX (idx_send_order) WHERE state = 'pending' AND severity = {} \
                 AND created_at <= {NOW_MS} - {} AND customer_id = ",
            Severity::Critical.number(),
            milliseconds(CRITICAL_WAIT)
        ));
        query.push_bind(customer_id).push(
            ") AS critical JOIN t_alert_outbox AS waiting \
             FORCE INDEX (uk_episode_transition_recipient) USING (episode_key, recipient)",
        );
    } else {
        query.push("t_alert_outbox AS waiting FORCE INDEX (idx_customer_state)");
    }
    query.push(format!(" WHERE waiting.state = 'pending' AND waiting.lease_until <= {NOW_MS}"));
    query.push(" AND waiting.customer_id = ").push_bind(customer_id);
    query.push(" AND waiting.id > ").push_bind(after);
    query.push(" AND waiting.recipient LIKE ").push_bind(addresses(channel));
    query.push(format!(" ORDER BY waiting.id LIMIT {STRANDED_MAX}"));
    query
}

/// Adds copies of a row for other recipients. A copy of what may have arrived is marked as a repeat.
///
/// A recipient who has the notification already, or a later one of its episode, gets no copy: no
/// address gets a notification twice, and none after a later one. A recipient's own row in one of the
/// states `set_aside` is due again. A copy keeps the row's time, and with it the row's order.
pub async fn copy(
    connection: &mut MySqlConnection,
    id: i64,
    recipients: &[Recipient],
    set_aside: &'static str,
) -> sqlx::Result<()> {
    // Assignments see the values set before them, so the state comes last.
    let again = |column: &str, value: &str| {
        format!(
            "t_alert_outbox.{column} = IF(t_alert_outbox.state IN {set_aside}, {value}, \
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
        again("state", "'pending'"),
    ];
    let query = format!(
        "INSERT INTO t_alert_outbox (episode_key, transition_seq, transition, recipient, user_id, \
         customer_id, device_sn, notice, payload, traceparent, severity, event_at, resends, \
         next_attempt_at, created_at) SELECT episode_key, transition_seq, transition, ?, ?, \
         customer_id, device_sn, notice, '', traceparent, severity, \
         COALESCE(event_at, created_at), resends + IF(uncertain_since IS NULL, 0, 1), \
         {NOW_MS}, created_at FROM t_alert_outbox AS source WHERE source.id = ? AND NOT EXISTS ( \
             SELECT 1 FROM t_alert_outbox AS later WHERE later.episode_key = source.episode_key \
             AND later.transition_seq > source.transition_seq AND later.recipient = ? \
             AND (later.state IN ('sent', 'in_digest') OR later.uncertain_since IS NOT NULL \
             OR later.state = 'pending' AND later.lease_until > {NOW_MS})) ON DUPLICATE KEY UPDATE {}",
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
/// later one, or the row's own was sent a later one.
///
/// With `only`, which are not empty, no others count. The watch never counts.
pub async fn is_reached(
    connection: &mut MySqlConnection,
    id: i64,
    only: Option<&[Recipient]>,
) -> sqlx::Result<bool> {
    let mut query: QueryBuilder<MySql> = QueryBuilder::new(format!(
        "SELECT COUNT(*) FROM t_alert_outbox AS source \
         JOIN t_alert_outbox AS target ON target.episode_key = source.episode_key \
         AND target.transition_seq >= source.transition_seq AND target.id <> source.id \
         AND target.recipient NOT LIKE '{}' \
         AND (target.state = 'sent' OR target.uncertain_since IS NOT NULL \
         OR target.state IN ('pending', 'in_digest') AND target.recipient <> source.recipient) \
         WHERE source.id = ",
        addresses(Channel::Message)
    ));
    query.push_bind(id);
    if let Some(recipients) = only {
        query.push(" AND target.recipient");
        push_in(&mut query, recipients.iter().map(|to| to.address.to_string()));
    }
    let targets: i64 = query.build_query_scalar().fetch_one(connection).await?;
    Ok(targets > 0)
}

/// Locks an alert until the end of the transaction, and returns whether it is over. `None`: the table
/// rejected the alert, or it was removed.
///
/// Its end then finds the rows that the transaction adds, and its notifications are routed again one
/// by one.
pub async fn lock_alert(
    connection: &mut MySqlConnection,
    episode_key: &str,
) -> sqlx::Result<Option<bool>> {
    // The condition must not be in WHERE: the server would release the lock of an alert that fires.
    let query = format!(
        "SELECT CAST(COALESCE({ALERT_OVER}, 0) AS SIGNED) FROM t_alert_info \
         WHERE dedup_key = ? FOR UPDATE"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(query))
        .bind(episode_key)
        .fetch_optional(connection)
        .await
}

/// What becomes of a refused or unrouted row that was routed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Others have the notification.
    Reached,
    /// Nobody has the notification. It is routed again later.
    Unrouted,
    /// The episode is over.
    Over,
}

/// Stores what becomes of a refused or unrouted row. A row that is due again by itself stays so.
pub async fn finish(
    connection: &mut MySqlConnection,
    id: i64,
    outcome: Outcome,
) -> sqlx::Result<()> {
    let (changes, finished, wait) = match outcome {
        Outcome::Reached => ("state = 'refused'", NOW_MS, Duration::ZERO),
        Outcome::Unrouted => ("state = 'unrouted'", "NULL", ROUTE_INTERVAL),
        Outcome::Over => ("state = 'dropped', last_error = 'over'", NOW_MS, Duration::ZERO),
    };
    let query = format!(
        "UPDATE t_alert_outbox SET lease_until = 0, finished_at = {finished}, \
         next_attempt_at = {NOW_MS} + {}, {changes} \
         WHERE state IN ('refused', 'unrouted') AND id = ?",
        milliseconds(wait)
    );
    sqlx::query(sqlx::AssertSqlSafe(query)).bind(id).execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_critical_leaves_an_account_at_a_limit() {
        let all = stranded(7, Channel::Official, 0, false).into_string();
        assert!(
            !all.contains("critical") && all.ends_with("ORDER BY waiting.id LIMIT 500"),
            "{all}"
        );
        let some = stranded(7, Channel::Official, 0, true).into_string();
        assert!(some.contains("severity = 5"), "{some}");
        assert!(some.contains("created_at <= CAST(UNIX_TIMESTAMP(NOW(3)) * 1000"), "{some}");
    }
}
