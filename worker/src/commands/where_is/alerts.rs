//! Reads from the alerter's tables the episodes that a reading may have opened, changed or met, and
//! their notifications. The alerter stores no evaluation that changed nothing.

use anyhow::Context;
use jiff::tz::TimeZone;
use ljwx_ledger::mysql::MySqlPool;
use ljwx_ledger::mysql::sql::push_in;
use ljwx_ledger::platform_tables::ALERT_OVER;
use ljwx_reading::wall_text_of;
use sqlx::{AssertSqlSafe, FromRow, QueryBuilder};

use super::answers::{AlertRelation, AlertSearch, FoundAlert, FoundNotification, SoughtReading};
use super::matching::trace_of;

/// Most alerts that are read.
const ALERTS_MAX: usize = 100;

/// Most notifications that are read.
const NOTIFICATIONS_MAX: usize = 500;

/// Returns the query for episodes of the device that opened or resolved at the time, or were open at
/// it. A closed episode without a time of its end is only found by its opening.
fn alerts() -> String {
    format!(
        "SELECT CAST(id AS SIGNED) AS id, \
         CAST(COALESCE(rule_id, 0) AS SIGNED) AS rule_id, \
         CAST(COALESCE(alert_type, '') AS CHAR) AS alert_type, \
         CAST(COALESCE(severity_level, '') AS CHAR) AS severity, \
         CAST(COALESCE(alert_status, '') AS CHAR) AS status, \
         CAST(DATE_FORMAT(occur_at, '%Y-%m-%d %H:%i:%s') AS CHAR) AS opened, \
         CAST(DATE_FORMAT(recover_at, '%Y-%m-%d %H:%i:%s') AS CHAR) AS recovered, \
         CAST(dedup_key AS CHAR) AS episode_key \
         FROM t_alert_info WHERE device_sn = ? AND dedup_key IS NOT NULL AND occur_at <= ? \
         AND (occur_at = ? OR recover_at >= ? \
         OR (recover_at IS NULL AND NOT COALESCE({ALERT_OVER}, 0))) \
         ORDER BY t_alert_info.id DESC LIMIT ?"
    )
}

/// The start of the query for the notifications of episodes.
const NOTIFICATIONS: &str = "SELECT id, episode_key, transition, recipient, state, attempts, \
     finished_at, last_error, traceparent, notice FROM t_alert_outbox WHERE episode_key";

#[derive(Debug, FromRow)]
struct AlertRow {
    id: i64,
    rule_id: i64,
    alert_type: String,
    severity: String,
    status: String,
    opened: String,
    recovered: Option<String>,
    episode_key: String,
}

#[derive(Debug, FromRow)]
struct NotificationRow {
    id: i64,
    episode_key: String,
    transition: String,
    recipient: String,
    state: String,
    attempts: i32,
    finished_at: Option<i64>,
    last_error: Option<String>,
    traceparent: Option<String>,
    notice: String,
}

/// Reads the episodes and their notifications.
pub async fn read(
    pool: &MySqlPool,
    sought: &SoughtReading,
    zone: &TimeZone,
) -> anyhow::Result<AlertSearch> {
    let rows: Vec<AlertRow> = sqlx::query_as(AssertSqlSafe(alerts()))
        .bind(&sought.device)
        .bind(&sought.time)
        .bind(&sought.time)
        .bind(&sought.time)
        .bind(ALERTS_MAX as i64)
        .fetch_all(pool)
        .await
        .context("cannot read t_alert_info")?;
    let notifications = notifications(pool, &rows).await.context("cannot read t_alert_outbox")?;
    let cut = rows.len() == ALERTS_MAX || notifications.len() == NOTIFICATIONS_MAX;
    let alert = |row: AlertRow| {
        let own = notifications.iter().filter(|one| one.episode_key == row.episode_key);
        let own = own.map(|one| one.found(sought, zone)).collect();
        row.found(sought, own)
    };
    Ok(AlertSearch { alerts: rows.into_iter().map(alert).collect(), cut })
}

async fn notifications(
    pool: &MySqlPool,
    alerts: &[AlertRow],
) -> Result<Vec<NotificationRow>, sqlx::Error> {
    if alerts.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = QueryBuilder::new(NOTIFICATIONS);
    push_in(&mut query, alerts.iter().map(|alert| &alert.episode_key));
    query.push(" ORDER BY t_alert_outbox.id LIMIT ").push_bind(NOTIFICATIONS_MAX as i64);
    query.build_query_as().persistent(false).fetch_all(pool).await
}

impl AlertRow {
    fn found(self, sought: &SoughtReading, notifications: Vec<FoundNotification>) -> FoundAlert {
        let relation = if self.opened == sought.time {
            AlertRelation::Opened
        } else if self.recovered.as_ref() == Some(&sought.time) {
            AlertRelation::Resolved
        } else {
            AlertRelation::Open
        };
        FoundAlert {
            id: self.id,
            rule_id: self.rule_id,
            alert_type: self.alert_type,
            severity: self.severity,
            status: self.status,
            opened_at: self.opened,
            recovered_at: self.recovered,
            relation,
            notifications,
        }
    }
}

impl NotificationRow {
    fn found(&self, sought: &SoughtReading, zone: &TimeZone) -> FoundNotification {
        FoundNotification {
            id: self.id,
            transition: self.transition.clone(),
            at_reading: notice_time(&self.notice).as_ref() == Some(&sought.time),
            recipient: self.recipient.clone(),
            state: self.state.clone(),
            attempts: self.attempts,
            finished_at: self.finished_at.map(|at_ms| wall_text_of(at_ms, zone)),
            last_error: self.last_error.clone(),
            trace: self.traceparent.as_deref().and_then(trace_of),
        }
    }
}

/// Returns the time of the reading that a notice is about, as stored in the tables.
fn notice_time(notice: &str) -> Option<String> {
    let notice: serde_json::Value = serde_json::from_str(notice).ok()?;
    Some(notice.get("wall")?.as_str()?.replacen('T', " ", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_notice_has_the_form_of_the_tables() {
        let time = notice_time(r#"{"wall":"2025-09-02T16:09:00","user":"x"}"#);
        assert_eq!(time.as_deref(), Some("2025-09-02 16:09:00"));
        for other in ["", "{}", r#"{"wall":7}"#] {
            assert_eq!(notice_time(other), None, "{other}");
        }
    }
}
