//! What became of notifications, and how many there never were, by rule and tenant.
//!
//! Runs statements; [`super`] puts the answers beside the episodes.

use anyhow::Context;
use ljwx_ledger::mysql::MySqlConnection;
use serde::Serialize;
use sqlx::FromRow;

use crate::commands::report::query::Question;
use crate::rules::channel::Channel;

/// Notifications of one rule and tenant that went the same way.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Counted {
    /// The rule; 0 where there is no single alert.
    pub rule_id: i64,
    /// The tenant.
    pub customer_id: i64,
    /// What they have in common.
    #[sqlx(flatten)]
    pub what: Notifications,
}

/// Notifications that went the same way.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize)]
pub struct Notifications {
    /// The channel.
    pub channel: String,
    /// What became of them: a state of the outbox, or `attempt_failed` of single attempts.
    pub outcome: String,
    /// What the channel answered last; `None`: nothing, or nothing was asked.
    pub errcode: Option<i64>,
    /// How many.
    pub notifications: i64,
}

/// Notifications that were not sent.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct NotSent {
    /// The rule.
    pub rule_id: i64,
    /// The tenant.
    pub customer_id: i64,
    /// Why.
    pub reason: String,
    /// How many.
    pub suppressed: i64,
}

/// What became of the notifications recorded in the span, and what attempts failed in it.
pub async fn notifications(
    connection: &mut MySqlConnection,
    question: &Question,
) -> anyhow::Result<Vec<Counted>> {
    let mut counted =
        recorded(&mut *connection, question).await.context("cannot read t_alert_outbox")?;
    for one in &mut counted {
        if let Some(channel) = Channel::from_kind(&one.what.channel) {
            channel.as_str().clone_into(&mut one.what.channel);
        }
    }
    let failed = failed_attempts(connection, question);
    counted.extend(failed.await.context("cannot read t_alert_action_log")?);
    Ok(counted)
}

async fn recorded(
    connection: &mut MySqlConnection,
    question: &Question,
) -> Result<Vec<Counted>, sqlx::Error> {
    sqlx::query_as(
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
    .fetch_all(connection)
    .await
}

/// The log says of a failed attempt `errcode N: …` where the channel answered.
async fn failed_attempts(
    connection: &mut MySqlConnection,
    question: &Question,
) -> Result<Vec<Counted>, sqlx::Error> {
    sqlx::query_as(
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
}

/// What was not sent on the days that the span touches.
pub async fn not_sent(
    connection: &mut MySqlConnection,
    question: &Question,
) -> anyhow::Result<Vec<NotSent>> {
    let (first, last) = question.days();
    sqlx::query_as(
        "SELECT rule_id, customer_id, reason, CAST(SUM(suppressed) AS SIGNED) AS suppressed \
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
