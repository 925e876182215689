//! Stores the outcome of an attempt: in the row, in the rows that it reports and in the alerts, then
//! in the alerts' log.
//!
//! All changes but the log are one transaction. Final rows are not changed.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use ljwx_ledger::mysql::MySqlConnection;
use serde_json::json;
use sqlx::{MySql, QueryBuilder};

use crate::mysql::alert_rows;
use crate::mysql::columns::Columns;
use crate::notify::device_message::{self, DeviceMessage};
use crate::notify::notice::cut;
use crate::notify::outbox::notification::Notification;
use crate::notify::outbox::table::{
    FROM_DIGEST, NOW_MS, Outbox, REASON_BYTES_MAX, change, milliseconds, push_in,
};
use crate::rules::Channel;

/// The settlement of a claimed notification.
#[derive(Debug, Clone, PartialEq)]
pub enum Settlement {
    /// The platform accepted the notification.
    Sent,
    /// The notification is retried after this time.
    Retry(Duration),
    /// The notification is not to be sent any more.
    Dropped,
    /// The notification can never be sent.
    Failed,
    /// The platform rejected the recipient for good. The notification goes to another address.
    Refused,
    /// The account cannot send the notification. The notification goes to the person's address at
    /// another account.
    Moved,
}

impl Settlement {
    /// The state's word in the outbox.
    pub fn state(&self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Retry(_) => "pending",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Moved => "moved",
        }
    }

    /// Whether the settlement is final.
    fn is_final(&self) -> bool {
        !matches!(self, Self::Retry(_))
    }
}

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The settlement of the notification.
    pub settlement: Settlement,
    /// Whether a platform was called.
    pub requested: bool,
    /// Whether the message of this attempt may have arrived without an answer. If no platform was
    /// called, an earlier uncertainty stays.
    pub uncertain: bool,
    /// The platform's errcode.
    pub errcode: Option<i64>,
    /// The reason why the notification was not sent. If no platform was called, the reason is a
    /// fixed word.
    pub reason: Option<Cow<'static, str>>,
    /// Fields that the message had in their plain form.
    pub plain_fields: BTreeSet<String>,
}

impl Attempt {
    /// The platform accepted the notification.
    pub fn sent(errcode: Option<i64>) -> Self {
        let (settlement, plain_fields) = (Settlement::Sent, BTreeSet::new());
        Self { settlement, requested: true, uncertain: false, errcode, reason: None, plain_fields }
    }

    /// No platform was called. The reason is a fixed word.
    pub fn not_sent(settlement: Settlement, reason: &'static str) -> Self {
        let reason = Some(reason.into());
        Self { settlement, requested: false, reason, ..Self::sent(None) }
    }

    /// No platform was called yet. The notification is postponed.
    pub fn later(wait: Duration, reason: &'static str) -> Self {
        Self::not_sent(Settlement::Retry(wait), reason)
    }
}

impl Outbox {
    /// Stores the outcome of an attempt and releases the row.
    pub async fn settle(&self, notification: &Notification, attempt: &Attempt) -> sqlx::Result<()> {
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
    ) -> sqlx::Result<bool> {
        let mut transaction = self.pool.begin().await?;
        if !settle(&mut transaction, notification, &Attempt::sent(None)).await? {
            transaction.rollback().await?;
            return Ok(false);
        }
        device_message::insert(&mut transaction, columns, message).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Adds an attempt to the alerts' log. Alerts in a digest are logged once, when the digest is
    /// final: hundreds of alerts need no line for every attempt. If a line cannot be written, the
    /// settled row stays settled.
    pub async fn log(
        &self,
        notification: &Notification,
        channel: Channel,
        attempt: &Attempt,
    ) -> sqlx::Result<()> {
        if notification.is_digest() && !attempt.settlement.is_final() {
            return Ok(());
        }
        let result = if attempt.settlement == Settlement::Sent { "success" } else { "failed" };
        let details = match (attempt.errcode, &attempt.reason) {
            (Some(errcode), Some(reason)) => format!("errcode {errcode}: {reason}"),
            (_, Some(reason)) => reason.to_string(),
            _ => notification.transition.clone(),
        };
        // What is special about the message: the fields in their plain form.
        let fields = &attempt.plain_fields;
        let context = (!fields.is_empty()).then(|| json!({ "plain_fields": fields }).to_string());
        // UNION leaves out what is the same: a digest may hold several notifications of one episode.
        let query = sqlx::query(
            "INSERT INTO t_alert_action_log (alert_id, action, action_timestamp, details, \
             handled_via, result, notification_type, retry_attempt, customer_id, context, channel, \
             actor, action_at) SELECT alert.id, 'notify', NOW(), ?, ?, ?, ?, ?, ?, ?, ?, \
             'alerter', NOW() FROM t_alert_info AS alert JOIN ( \
                 SELECT episode_key FROM t_alert_outbox WHERE id = ? \
                 UNION SELECT episode_key FROM t_alert_outbox WHERE digest_id = ?) AS part \
             ON alert.dedup_key = part.episode_key",
        );
        query
            .bind(details)
            .bind(channel.as_str())
            .bind(result)
            .bind(channel.as_str())
            .bind(notification.attempts)
            .bind(notification.customer_id)
            .bind(context)
            .bind(channel.as_str())
            .bind(notification.id)
            .bind(notification.id)
            .execute(&self.pool)
            .await?;
        Ok(())
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
) -> sqlx::Result<bool> {
    if attempt.settlement == Settlement::Sent && notification.counts() {
        // A digest's own key is that of no alert.
        let mut keys = vec![notification.episode_key.clone()];
        if notification.has_members() {
            let query = "SELECT DISTINCT episode_key FROM t_alert_outbox WHERE digest_id = ?";
            let members: Vec<String> =
                sqlx::query_scalar(query).bind(notification.id).fetch_all(&mut *connection).await?;
            keys.extend(members);
        }
        alert_rows::notified(connection, &keys).await?;
    }
    if !settle_row(connection, notification, attempt).await? {
        return Ok(false);
    }
    // The rows that the message reports beside its own.
    let leader = [notification.id];
    match attempt.settlement {
        _ if !notification.has_members() => {}
        Settlement::Retry(_) => {}
        // Each is routed again by itself.
        Settlement::Refused => dissolve(connection, &leader, "unrouted").await?,
        Settlement::Sent => settle_members(connection, &leader).await?,
        Settlement::Dropped | Settlement::Failed if notification.is_digest() => {
            settle_members(connection, &leader).await?;
        }
        // The reason may be one of the leading row alone: its episode is over. Or the platform refused
        // the content, which is at fault in one of the rows.
        _ => dissolve(connection, &leader, "pending").await?,
    }
    Ok(true)
}

async fn settle_row(
    connection: &mut MySqlConnection,
    notification: &Notification,
    attempt: &Attempt,
) -> sqlx::Result<bool> {
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
) -> sqlx::Result<()> {
    let settle = "UPDATE t_alert_outbox AS part \
         JOIN t_alert_outbox AS digest ON digest.id = part.digest_id \
         SET part.state = digest.state, part.finished_at = digest.finished_at, \
         part.next_attempt_at = digest.next_attempt_at, \
         part.uncertain_since = digest.uncertain_since, \
         part.last_errcode = digest.last_errcode, part.last_error = digest.last_error \
         WHERE part.state = 'in_digest' AND digest.state <> 'pending' AND digest.id";
    change(connection, settle, digests).await.map(drop)
}

/// Takes the rows of these digests, or those folded into these rows, out and makes them due in
/// `state`, as rows that no sender has had yet. What may have arrived may have arrived with each: then
/// their own bytes, which the platform does not know, are built again as a repeat. If the content was
/// refused, they are sent by themselves: only such a row is settled as moved before.
///
/// Also makes rows pending that are folded into others and follow one of these in its episode. The
/// row into which such a row is folded has waited for the digest, and does not wait for that row.
pub(super) async fn dissolve(
    connection: &mut MySqlConnection,
    digests: &[i64],
    state: &'static str,
) -> sqlx::Result<()> {
    let free_later = format!(
        "UPDATE t_alert_outbox AS part \
         JOIN t_alert_outbox AS later ON later.episode_key = part.episode_key \
         AND later.recipient = part.recipient AND later.transition_seq > part.transition_seq \
         SET later.state = 'pending', later.digest_id = NULL, later.next_attempt_at = {NOW_MS} \
         WHERE part.state = 'in_digest' AND later.state = 'in_digest' \
         AND later.digest_id <> part.digest_id AND part.digest_id"
    );
    change(connection, free_later, digests).await?;
    let free = format!(
        "UPDATE t_alert_outbox AS part \
         JOIN t_alert_outbox AS digest ON digest.id = part.digest_id \
         SET part.state = '{state}', part.digest_id = NULL, part.lease_owner = NULL, \
         part.next_attempt_at = {NOW_MS}, part.uncertain_since = digest.uncertain_since, \
         part.payload = IF(digest.uncertain_since IS NULL, part.payload, ''), \
         part.last_error = IF(digest.state = 'moved', '{FROM_DIGEST}', part.last_error) \
         WHERE part.state = 'in_digest' AND digest.id"
    );
    change(connection, free, digests).await.map(drop)
}

/// Ends rows that wait and are not being sent, in `state` and for this reason.
pub async fn end_rows(
    connection: &mut MySqlConnection,
    ids: &[i64],
    state: &'static str,
    reason: &str,
) -> sqlx::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut query: QueryBuilder<MySql> = QueryBuilder::new(format!(
        "UPDATE t_alert_outbox SET state = '{state}', digest_id = NULL, finished_at = {NOW_MS}, \
         next_attempt_at = {NOW_MS}, last_error = "
    ));
    query.push_bind(cut(reason, REASON_BYTES_MAX));
    query.push(" WHERE state IN ('pending', 'in_digest', 'unrouted') AND id");
    push_in(&mut query, ids);
    query.build().execute(connection).await.map(drop)
}
