//! Counts notifications by outcome, and suppressed notifications, by rule and tenant.
//!
//! Runs statements. [`super`] puts the counts beside the episodes.

use anyhow::Context;
use ljwx_ledger::mysql::MySqlConnection;
use serde::Serialize;
use sqlx::FromRow;

use crate::commands::report::query::ReportQuery;
use crate::rules::channel::Channel;

/// Notifications of one rule and tenant with the same outcome.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct NotificationCounts {
    /// The rule. 0 if there is no single alert.
    pub rule_id: i64,
    /// The tenant.
    pub customer_id: i64,
    /// Channel, outcome, errcode and number.
    #[sqlx(flatten)]
    pub what: NotificationGroup,
}

/// Notifications with the same outcome.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize)]
pub struct NotificationGroup {
    /// The channel.
    pub channel: String,
    /// The outcome: a state of the outbox, or `attempt_failed` for single attempts.
    pub outcome: String,
    /// The channel's last errcode. `None`: no answer, or no call.
    pub errcode: Option<i64>,
    /// Number of notifications.
    pub notifications: i64,
}

/// Counts the notifications recorded in the period, and the attempts that failed in it.
pub async fn notifications(
    connection: &mut MySqlConnection,
    question: &ReportQuery,
) -> anyhow::Result<Vec<NotificationCounts>> {
    let mut counted: Vec<NotificationCounts> = sqlx::query_as(
        "SELECT COALESCE(a.rule_id, 0) AS rule_id, o.customer_id, \
         SUBSTRING_INDEX(o.recipient, ':', 1) AS channel, o.state AS outcome, \
         o.last_errcode AS errcode, COUNT(*) AS notifications \
         FROM t_alert_outbox AS o LEFT JOIN t_alert_info AS a ON a.dedup_key = o.episode_key \
         WHERE o.created_at >= ? AND o.created_at < ? AND (? IS NULL OR o.customer_id = ?) \
         GROUP BY COALESCE(a.rule_id, 0), o.customer_id, SUBSTRING_INDEX(o.recipient, ':', 1), \
         o.state, o.last_errcode",
    )
    .bind(question.from_ms)
    .bind(question.to_ms)
    .bind(question.customer_id)
    .bind(question.customer_id)
    .fetch_all(&mut *connection)
    .await
    .context("cannot read t_alert_outbox")?;
    for one in &mut counted {
        if let Some(channel) = Channel::from_kind(&one.what.channel) {
            channel.as_str().clone_into(&mut one.what.channel);
        }
    }
    // If the channel answered, the log's details are `errcode N: …`.
    let failed: Vec<NotificationCounts> = sqlx::query_as(
        "SELECT rule_id, customer_id, channel, 'attempt_failed' AS outcome, errcode, \
         COUNT(*) AS notifications FROM ( \
             SELECT a.rule_id, l.customer_id, COALESCE(l.channel, '') AS channel, \
             IF(l.details LIKE 'errcode %', \
                 CAST(SUBSTRING_INDEX(SUBSTRING(l.details, 9), ':', 1) AS SIGNED), NULL) AS errcode \
             FROM t_alert_action_log AS l JOIN t_alert_info AS a ON a.id = l.alert_id \
             WHERE l.action = 'notify' AND l.actor = 'alerter' AND l.result = 'failed' \
             AND l.action_at >= ? AND l.action_at < ? AND (? IS NULL OR l.customer_id = ?) \
         ) AS attempts GROUP BY rule_id, customer_id, channel, errcode",
    )
    .bind(question.wall(question.from_ms))
    .bind(question.wall(question.to_ms))
    .bind(question.customer_id)
    .bind(question.customer_id)
    .fetch_all(connection)
    .await
    .context("cannot read t_alert_action_log")?;
    counted.extend(failed);
    Ok(counted)
}

/// Counts suppressed notifications of the days that the period touches. Returns the rule, the tenant,
/// the reason and the number of each count.
pub async fn not_sent(
    connection: &mut MySqlConnection,
    question: &ReportQuery,
) -> anyhow::Result<Vec<(i64, i64, String, i64)>> {
    let (first, last) = question.days();
    sqlx::query_as(
        "SELECT rule_id, customer_id, reason, CAST(SUM(suppressed) AS SIGNED) \
         FROM t_alert_suppressed WHERE event_day >= ? AND event_day <= ? \
         AND (? IS NULL OR customer_id = ?) GROUP BY rule_id, customer_id, reason",
    )
    .bind(first.to_string())
    .bind(last.to_string())
    .bind(question.customer_id)
    .bind(question.customer_id)
    .fetch_all(connection)
    .await
    .context("cannot read t_alert_suppressed")
}
