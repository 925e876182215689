//! Stores the outcome of an attempt in the row, in the rows that it reports, and in the alerts.
//!
//! All changes are one transaction. Final rows are not changed.

use ljwx_ledger::mysql::MySqlConnection;
use sqlx::{MySql, QueryBuilder};

use crate::mysql::alert_rows;
use crate::mysql::columns::Columns;
use crate::notify::device_message::{self, DeviceMessage};
use crate::notify::notice::cut;
use crate::notify::outbox::attempt::{Attempt, Settlement};
use crate::notify::outbox::notification::Notification;
use crate::notify::outbox::table::{
    FROM_DIGEST, NOW_MS, Outbox, REASON_BYTES_MAX, milliseconds, push_in,
};

impl Outbox {
    /// Stores the outcome of an attempt and releases the row.
    pub async fn settle(
        &self,
        notification: &Notification,
        attempt: &Attempt,
    ) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        settle(&mut transaction, notification, attempt).await?;
        transaction.commit().await
    }

    /// Delivers a notification whose channel is a table of this database. The message and its
    /// settlement are one transaction, so the message is written once. Returns false if the row is
    /// no longer pending.
    pub async fn deliver(
        &self,
        notification: &Notification,
        columns: &Columns,
        message: &DeviceMessage<'_>,
    ) -> Result<bool, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        if !settle(&mut transaction, notification, &Attempt::sent(None)).await? {
            transaction.rollback().await?;
            return Ok(false);
        }
        device_message::insert(&mut transaction, columns, message).await?;
        transaction.commit().await?;
        Ok(true)
    }
}

/// Settles a row, the rows that it reports and its alerts. Returns false if the row is final or
/// another sender has it.
///
/// The alerts come first, as for whoever ends them or routes their notifications again: so none waits
/// for another.
pub async fn settle(
    connection: &mut MySqlConnection,
    notification: &Notification,
    attempt: &Attempt,
) -> Result<bool, sqlx::Error> {
    if attempt.settlement == Settlement::Sent && notification.counts() {
        let keys = keys(connection, notification).await?;
        alert_rows::notified(connection, &keys).await?;
    }
    if !settle_row(connection, notification, attempt).await? {
        return Ok(false);
    }
    if notification.has_members() && attempt.settlement.is_final() {
        end_members(connection, notification, &attempt.settlement).await?;
    }
    Ok(true)
}

/// Settles the rows that a settled row reports beside itself.
async fn end_members(
    connection: &mut MySqlConnection,
    notification: &Notification,
    settlement: &Settlement,
) -> Result<(), sqlx::Error> {
    let ids = [notification.id];
    match settlement {
        // Each is routed again by itself.
        Settlement::Refused => dissolve(connection, &ids, "unrouted").await,
        Settlement::Dropped | Settlement::Failed if notification.is_digest() => {
            settle_members(connection, &ids).await
        }
        Settlement::Sent => settle_members(connection, &ids).await,
        // The reason may be one of the leading row alone: its episode is over. Or the platform refused
        // the content, which is at fault in one of the rows.
        _ => dissolve(connection, &ids, "pending").await,
    }
}

async fn settle_row(
    connection: &mut MySqlConnection,
    notification: &Notification,
    attempt: &Attempt,
) -> Result<bool, sqlx::Error> {
    let delay =
        if let Settlement::Retry(delay) = attempt.settlement { milliseconds(delay) } else { 0 };
    // A sent row is settled even if another sender owns the row now. Other outcomes need the lease.
    // If the severity has risen meanwhile, the row is due at once: the rise waits behind it. A row
    // of a refused digest stays marked as such while it waits.
    let query = format!(
        "UPDATE t_alert_outbox SET state = ?, attempts = attempts + ?, lease_until = 0, \
         next_attempt_at = {NOW_MS} + IF(severity > ?, 0, ?), last_errcode = ?, \
         last_error = IF(? AND last_error <=> '{FROM_DIGEST}', last_error, ?), \
         finished_at = IF(?, {NOW_MS}, NULL), uncertain_since = IF(?, uncertain_since, NULL) \
         WHERE id = ? AND state = 'pending' AND (? OR lease_owner = ?)"
    );
    let settled = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(attempt.settlement.state())
        .bind(i32::from(attempt.requested))
        .bind(notification.severity)
        .bind(delay)
        .bind(attempt.errcode)
        .bind(!attempt.settlement.is_final())
        .bind(attempt.reason.as_deref().map(|reason| cut(reason, REASON_BYTES_MAX)))
        .bind(attempt.settlement.is_final())
        .bind(attempt.uncertain || !attempt.requested)
        .bind(notification.id)
        .bind(attempt.settlement == Settlement::Sent)
        .bind(&notification.lease_owner)
        .execute(connection)
        .await?;
    Ok(settled.rows_affected() > 0)
}

/// Gives the rows of these digests, or those folded into these rows, their settlement, if it is
/// final.
pub(super) async fn settle_members(
    connection: &mut MySqlConnection,
    digests: &[i64],
) -> Result<(), sqlx::Error> {
    let mut query: QueryBuilder<MySql> = QueryBuilder::new(
        "UPDATE t_alert_outbox AS part \
         JOIN t_alert_outbox AS digest ON digest.id = part.digest_id \
         SET part.state = digest.state, part.finished_at = digest.finished_at, \
         part.next_attempt_at = digest.next_attempt_at, \
         part.uncertain_since = digest.uncertain_since, \
         part.last_errcode = digest.last_errcode, part.last_error = digest.last_error \
         WHERE part.state = 'in_digest' AND digest.state <> 'pending' AND digest.id",
    );
    push_in(&mut query, digests);
    query.build().execute(connection).await?;
    Ok(())
}

/// Takes the rows of these digests, or those folded into these rows, out and makes them due in
/// `state`, as rows that no sender has had yet. What may have arrived may have arrived with each. If
/// the content was refused, they are sent by themselves: only such a row is settled as moved before.
pub(super) async fn dissolve(
    connection: &mut MySqlConnection,
    digests: &[i64],
    state: &'static str,
) -> Result<(), sqlx::Error> {
    if digests.is_empty() {
        return Ok(());
    }
    free_later(connection, digests).await?;
    let mut query: QueryBuilder<MySql> = QueryBuilder::new(format!(
        "UPDATE t_alert_outbox AS part \
         JOIN t_alert_outbox AS digest ON digest.id = part.digest_id \
         SET part.state = '{state}', part.digest_id = NULL, part.lease_owner = NULL, \
         part.next_attempt_at = {NOW_MS}, part.uncertain_since = digest.uncertain_since, \
         part.last_error = IF(digest.state = 'moved', '{FROM_DIGEST}', part.last_error) \
         WHERE part.state = 'in_digest' AND digest.id"
    ));
    push_in(&mut query, digests);
    query.build().execute(connection).await?;
    Ok(())
}

/// Makes rows pending that are folded into others and follow a row of these digests in its episode.
/// The row into which one is folded has waited for the digest, and does not wait for that row.
async fn free_later(connection: &mut MySqlConnection, digests: &[i64]) -> Result<(), sqlx::Error> {
    let mut query: QueryBuilder<MySql> = QueryBuilder::new(format!(
        "UPDATE t_alert_outbox AS part \
         JOIN t_alert_outbox AS later ON later.episode_key = part.episode_key \
         AND later.recipient = part.recipient AND later.transition_seq > part.transition_seq \
         SET later.state = 'pending', later.digest_id = NULL, later.next_attempt_at = {NOW_MS} \
         WHERE part.state = 'in_digest' AND later.state = 'in_digest' \
         AND later.digest_id <> part.digest_id AND part.digest_id"
    ));
    push_in(&mut query, digests);
    query.build().execute(connection).await?;
    Ok(())
}

/// Returns the alerts that a notification reports.
async fn keys(
    connection: &mut MySqlConnection,
    notification: &Notification,
) -> Result<Vec<String>, sqlx::Error> {
    // A digest's own key is that of no alert.
    let mut keys = vec![notification.episode_key.clone()];
    if notification.has_members() {
        let query = "SELECT DISTINCT episode_key FROM t_alert_outbox WHERE digest_id = ?";
        let members: Vec<String> =
            sqlx::query_scalar(query).bind(notification.id).fetch_all(connection).await?;
        keys.extend(members);
    }
    Ok(keys)
}
