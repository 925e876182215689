//! The platform's rows of alerts: one row of `t_alert_info` per episode. The status of a row only
//! moves forward.
//!
//! Runs statements inside the caller's transaction.

use ljwx_ledger::mysql::MySqlConnection;
use ljwx_ledger::mysql::sql::push_in;
use ljwx_ledger::platform_tables::ALERT_OVER;
use ljwx_reading::{Ids, wall_text};
use sqlx::{AssertSqlSafe, MySql, QueryBuilder};

use crate::engine::Change;
use crate::engine::episode::EpisodeKey;
use crate::mysql::columns::Columns;
use crate::mysql::portions;
use crate::rules::{Measurement, Severity};

/// A row to insert.
#[derive(Debug)]
pub struct NewAlert {
    /// The key of the episode.
    pub key: EpisodeKey,
    /// The opening: rule, device, people, severity and event time.
    pub opening: Change,
    /// The platform's word for the kind of alert.
    pub alert_type: String,
    /// The vital and its value.
    pub measured: Measurement,
    /// The text of the rule.
    pub text: String,
    /// Number of the reading; `None`: missing data opened the episode.
    pub health_id: Option<i64>,
    /// Longitude, latitude, altitude. Always written, because the platform's own defaults are a
    /// place.
    pub place: [Option<f64>; 3],
}

/// A change of an existing row.
#[derive(Debug)]
pub enum AlertChange {
    /// The severity changed.
    Severity(Severity),
    /// The episode ended at the given event time.
    Resolved(String),
    /// The episode was closed, for the reason that the word names: [`SUPERSEDED`], [`STALE`] or
    /// [`CLOSED`].
    Closed(&'static str),
    /// The alert concerns other people than before.
    People(Ids),
}

/// The word for an alert whose rule changed.
pub const SUPERSEDED: &str = "superseded";

/// The word for an alert whose device has fallen silent.
pub const STALE: &str = "STALE";

/// The word for an alert whose device has another wearer, or none, or is forgotten.
pub const CLOSED: &str = "CLOSED";

/// Alerts of one statement, at most. Each alert has as many values as the statement has columns.
const NEW_ALERTS_MAX: usize = 128;

/// Inserts alerts. An existing alert stays unchanged. Texts are cut to their `columns`, with
/// `plain` as in [`Columns::fit`].
pub async fn open(
    connection: &mut MySqlConnection,
    alerts: &[&NewAlert],
    columns: &Columns,
    plain: bool,
) -> sqlx::Result<()> {
    let fit = |name, text| columns.fit(name, text, plain).into_owned();
    for alerts in portions(alerts, NEW_ALERTS_MAX) {
        let mut query: QueryBuilder<MySql> = QueryBuilder::new(
            "INSERT INTO t_alert_info (rule_id, alert_type, device_sn, alert_timestamp, \
             alert_desc, severity_level, alert_status, longitude, latitude, altitude, health_id, \
             user_id, org_id, customer_id, source, metric, value, level, status, dedup_key, \
             occur_at) ",
        );
        query.push_values(alerts, |mut row, alert| {
            let Change { rule_id, device_sn, ids, transition, at, .. } = &alert.opening;
            let [longitude, latitude, altitude] = alert.place;
            let (severity, occur_at) = (transition.severity.as_str(), wall_text(at.wall));
            row.push_bind(rule_id)
                .push_bind(fit("alert_type", &alert.alert_type))
                .push_bind(fit("device_sn", device_sn.as_str()))
                .push_bind(occur_at.clone())
                .push_bind(fit("alert_desc", &alert.text))
                .push_bind(fit("severity_level", severity))
                .push("'pending'")
                .push_bind(longitude)
                .push_bind(latitude)
                .push_bind(altitude)
                .push_bind(alert.health_id)
                .push_bind(ids.user_id)
                .push_bind(ids.org_id)
                .push_bind(ids.customer_id.unwrap_or_default())
                .push("'server'")
                .push_bind(fit("metric", alert.measured.vital.as_str()))
                .push_bind(alert.measured.value)
                .push_bind(fit("level", severity))
                .push("'NEW'")
                .push_bind(alert.key.as_str())
                .push_bind(occur_at);
        });
        query.push(" ON DUPLICATE KEY UPDATE rule_id = t_alert_info.rule_id");
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Changes the alert with this key. The status of a closed alert does not change.
pub async fn change(
    connection: &mut MySqlConnection,
    key: &EpisodeKey,
    change: &AlertChange,
) -> sqlx::Result<()> {
    // The status of what is over stays, and so does one that is NULL.
    let open = format!("dedup_key = ? AND NOT {ALERT_OVER}");
    let query = match change {
        AlertChange::Severity(severity) => {
            sqlx::query("UPDATE t_alert_info SET severity_level = ?, level = ? WHERE dedup_key = ?")
                .bind(severity.as_str())
                .bind(severity.as_str())
        }
        AlertChange::Resolved(recover_at) => sqlx::query(AssertSqlSafe(format!(
            "UPDATE t_alert_info SET alert_status = 'RESOLVED', status = 'RESOLVED', \
             recover_at = ? WHERE {open}"
        )))
        .bind(recover_at),
        AlertChange::Closed(word) => sqlx::query(AssertSqlSafe(format!(
            "UPDATE t_alert_info SET alert_status = ?, status = 'CLOSED' WHERE {open}"
        )))
        .bind(*word),
        AlertChange::People(ids) => sqlx::query(
            "UPDATE t_alert_info SET user_id = ?, org_id = ?, customer_id = ? WHERE dedup_key = ?",
        )
        .bind(ids.user_id)
        .bind(ids.org_id)
        .bind(ids.customer_id.unwrap_or_default()),
    };
    query.bind(key.as_str()).execute(connection).await.map(drop)
}

/// Alerts of one statement, at most.
const KEYS_MAX: usize = 500;

/// Marks these alerts as notified.
pub async fn notified(connection: &mut MySqlConnection, keys: &[String]) -> sqlx::Result<()> {
    for keys in keys.chunks(KEYS_MAX) {
        let mut query: QueryBuilder<MySql> = QueryBuilder::new(
            "UPDATE t_alert_info SET alert_status = 'NOTIFIED', status = 'NOTIFIED' \
             WHERE alert_status = 'pending' AND dedup_key",
        );
        push_in(&mut query, keys);
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}
