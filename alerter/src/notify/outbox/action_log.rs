//! Writes the alerts' own log: each attempt to notify, and its outcome.
//!
//! Written after the outbox. If a line cannot be written, the settled row stays settled.

use serde_json::json;
use sqlx::{MySql, QueryBuilder};

use crate::notify::outbox::attempt::{Attempt, Settlement};
use crate::notify::outbox::notification::Notification;
use crate::notify::outbox::table::Outbox;
use crate::rules::channel::Channel;

impl Outbox {
    /// Adds an attempt to the alerts' log. Alerts in a digest are logged once, when the digest is
    /// final: hundreds of alerts need no line for every attempt.
    pub async fn log(
        &self,
        notification: &Notification,
        channel: Channel,
        attempt: &Attempt,
    ) -> Result<(), sqlx::Error> {
        if notification.is_digest() && !attempt.settlement.is_final() {
            return Ok(());
        }
        let result = if attempt.settlement == Settlement::Sent { "success" } else { "failed" };
        let mut query: QueryBuilder<MySql> = QueryBuilder::new(
            "INSERT INTO t_alert_action_log (alert_id, action, action_timestamp, details, \
             handled_via, result, notification_type, retry_attempt, customer_id, context, channel, \
             actor, action_at) SELECT alert.id, 'notify', NOW(), ",
        );
        query.push_bind(details(notification, attempt));
        query.push(", ").push_bind(channel.as_str());
        query.push(", ").push_bind(result);
        query.push(", ").push_bind(channel.as_str());
        query.push(", ").push_bind(notification.attempts);
        query.push(", ").push_bind(notification.customer_id);
        query.push(", ").push_bind(context(attempt));
        query.push(", ").push_bind(channel.as_str());
        // UNION leaves out what is the same: a digest may hold several notifications of one episode.
        query.push(
            ", 'alerter', NOW() FROM t_alert_info AS alert JOIN ( \
                 SELECT episode_key FROM t_alert_outbox WHERE id = ",
        );
        query.push_bind(notification.id);
        query.push(" UNION SELECT episode_key FROM t_alert_outbox WHERE digest_id = ");
        query.push_bind(notification.id);
        query.push(") AS part ON alert.dedup_key = part.episode_key");
        query.build().execute(&self.pool).await?;
        Ok(())
    }
}

/// Returns what is special about the message: the fields in their plain form.
fn context(attempt: &Attempt) -> Option<String> {
    let fields = &attempt.plain_fields;
    (!fields.is_empty()).then(|| json!({ "plain_fields": fields }).to_string())
}

fn details(notification: &Notification, attempt: &Attempt) -> String {
    match (attempt.errcode, &attempt.reason) {
        (Some(errcode), Some(reason)) => format!("errcode {errcode}: {reason}"),
        (_, Some(reason)) => reason.to_string(),
        _ => notification.transition.clone(),
    }
}
