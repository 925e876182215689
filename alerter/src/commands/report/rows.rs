//! Reads the rows of a period from the tables: episodes one by one, and counts of notifications by
//! rule and tenant.
//!
//! Reads `t_alert_info` once and as a whole: neither the platform's table nor ours has an index for
//! the period.

use anyhow::Context;
use futures_util::TryStreamExt;
use jiff::civil::DateTime;
use ljwx_ledger::mysql::MySqlConnection;
use ljwx_ledger::platform_tables::ALERT_OVER;
use sqlx::{AssertSqlSafe, FromRow};

use super::aggregate::{Aggregation, EpisodeHistory, NotificationGroup};
use super::query::ReportQuery;
use crate::rules::Channel;

/// Most time by which a device's clock may be ahead. A notification may be that much older than its
/// event.
const AHEAD_MS_MAX: i64 = 24 * 3_600_000;

#[derive(Debug, FromRow)]
struct EpisodeRow {
    rule_id: i64,
    customer_id: i64,
    alert_type: String,
    device_sn: String,
    opened: String,
    recovered: Option<String>,
    is_open: i64,
    is_notified: i64,
    recorded_at: Option<i64>,
    delivered_at: Option<i64>,
    logged: Option<String>,
}

/// Adds every episode to `fold` that opened in the period or was open in it.
pub async fn episodes(
    connection: &mut MySqlConnection,
    question: &ReportQuery,
    fold: &mut Aggregation<'_>,
) -> anyhow::Result<()> {
    let (from, to) = (question.wall(question.from_ms), question.wall(question.to_ms));
    let mut rows = sqlx::query_as::<_, EpisodeRow>(AssertSqlSafe(query()))
        .bind(question.from_ms - AHEAD_MS_MAX)
        .bind(question.wall(question.from_ms - AHEAD_MS_MAX))
        .bind(to)
        .bind(&from)
        .bind(&from)
        .bind(question.customer_id)
        .bind(question.customer_id)
        .fetch(connection);
    while let Some(row) = rows.try_next().await.context("cannot read t_alert_info")? {
        fold.take(&row.history(question)?);
    }
    Ok(())
}

/// Builds the query. Rows of the platform have no episode key. Keys are compared in the character
/// set of our tables: in the platform's own, MySQL could not use the index.
fn query() -> String {
    // An episode with a `recover_at` has ended too.
    let open = format!("a.recover_at IS NULL AND NOT COALESCE({ALERT_OVER}, 0)");
    format!(
        "SELECT a.rule_id, a.customer_id, a.alert_type, a.device_sn, \
         CAST(a.occur_at AS CHAR) AS opened, CAST(a.recover_at AS CHAR) AS recovered, \
         CAST(({open}) AS SIGNED) AS is_open, \
         CAST(COALESCE(a.alert_status, '') = 'NOTIFIED' AS SIGNED) AS is_notified, \
         sent.recorded_at, sent.delivered_at, CAST(logged.delivered AS CHAR) AS logged \
         FROM t_alert_info AS a \
         LEFT JOIN (SELECT episode_key, MIN(created_at) AS recorded_at, \
             MIN(IF(state = 'sent', finished_at, NULL)) AS delivered_at \
             FROM t_alert_outbox WHERE created_at >= ? GROUP BY episode_key) AS sent \
         ON sent.episode_key = CONVERT(a.dedup_key USING ascii) COLLATE ascii_bin \
         LEFT JOIN (SELECT alert_id, MIN(action_at) AS delivered FROM t_alert_action_log \
             WHERE action = 'notify' AND result = 'success' AND action_at >= ? \
             GROUP BY alert_id) AS logged \
         ON logged.alert_id = a.id \
         WHERE a.dedup_key IS NOT NULL AND a.occur_at < ? \
         AND (a.occur_at >= ? OR a.recover_at > ? OR ({open})) \
         AND (? IS NULL OR a.customer_id = ?) \
         ORDER BY a.rule_id, a.customer_id, CAST(a.device_sn AS BINARY), a.occur_at, a.id"
    )
}

impl EpisodeRow {
    fn history(self, question: &ReportQuery) -> anyhow::Result<EpisodeHistory> {
        let opened = wall(&self.opened)?;
        let at_ms = |text: &String| anyhow::Ok(question.at_ms(wall(text)?));
        // The log is kept for longer than the outbox, but holds whole seconds only.
        let logged_at = self.logged.as_ref().map(at_ms).transpose()?;
        let delivered_at = self.delivered_at.or(logged_at);
        Ok(EpisodeHistory {
            rule_id: self.rule_id,
            customer_id: self.customer_id,
            alert_type: self.alert_type,
            device_sn: self.device_sn,
            opened_at: question.at_ms(opened),
            opened_on: opened.date(),
            over_at: self.recovered.as_ref().map(at_ms).transpose()?,
            is_open: self.is_open != 0,
            is_notified: delivered_at.is_some() || self.is_notified != 0,
            recorded_at: self.recorded_at,
            delivered_at,
        })
    }
}

fn wall(text: &str) -> anyhow::Result<DateTime> {
    text.parse().with_context(|| format!("t_alert_info holds {text}, which is no time"))
}

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

/// Counts suppressed notifications of the days that the period touches. Returns the rule, the
/// tenant, the reason and the number of each count.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_known_from_the_outbox_or_else_from_the_log() {
        let question = ReportQuery {
            from_ms: 0,
            to_ms: 1,
            customer_id: None,
            zone: jiff::tz::TimeZone::get("Asia/Shanghai").unwrap(),
        };
        let row = |delivered_at, logged: Option<&str>, is_notified| EpisodeRow {
            rule_id: 1,
            customer_id: 7,
            alert_type: "metric".into(),
            device_sn: "A1".into(),
            opened: "2025-09-02 16:09:00".into(),
            recovered: Some("2025-09-02 16:10:00.000".into()),
            is_open: 0,
            is_notified,
            recorded_at: None,
            delivered_at,
            logged: logged.map(str::to_owned),
        };
        let opened_at = 1_756_800_540_000;
        for (row, is_notified, delivered_at) in [
            (row(Some(5), Some("2025-09-02 16:09:03"), 0), true, Some(5)),
            (row(None, Some("2025-09-02 16:09:03"), 0), true, Some(opened_at + 3_000)),
            (row(None, None, 1), true, None),
            (row(None, None, 0), false, None),
        ] {
            let history = row.history(&question).unwrap();
            assert_eq!((history.is_notified, history.delivered_at), (is_notified, delivered_at));
            assert_eq!((history.opened_at, history.over_at), (opened_at, Some(opened_at + 60_000)));
        }
    }
}
