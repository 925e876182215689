//! Measures the notifications that wait, by severity, and how long due ones wait, beside the sender: the
//! metrics of a sender that stands still would stand still at their last values.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use metrics::gauge;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::metrics::{OUTBOX_DEPTH, OUTBOX_OLDEST_SECONDS};
use crate::notify::outbox::table::{NOW_MS, Outbox, from_milliseconds};
use crate::rules::{Channel, Severity};

/// Interval at which the outbox is measured.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);

/// A measurement of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxMeasurement {
    /// The time of the measurement.
    pub at: Instant,
    /// Age of the oldest critical notification that waits. 0 without one.
    pub critical_age: Duration,
    /// Time for which the oldest notification that could be sent has been due. 0 without one.
    pub due_for: Duration,
    /// Unrouted notifications of major and critical alerts, by tenant.
    pub unrouted: BTreeMap<i64, u64>,
}

/// The last measurement, if there is one.
pub type MeasuredOutbox = watch::Receiver<Option<OutboxMeasurement>>;

/// Measures the outbox at an interval, until `stop`. `failing` returns the tenants and channels whose
/// account fails: their notifications wait, and operators were notified of it.
pub async fn monitor(
    outbox: Outbox,
    failing: impl Fn() -> Vec<(i64, Channel)> + Send,
    measurements: watch::Sender<Option<OutboxMeasurement>>,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(MEASURE_INTERVAL);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let measured = outbox.measure(failing());
        let Some(measured) = stop.run_until_cancelled(measured).await else { return };
        match measured {
            Ok(measurement) => drop(measurements.send_replace(Some(measurement))),
            Err(error) => debug!(%error, "cannot measure the outbox, retrying"),
        }
    }
}

impl Outbox {
    /// Exports the number and the greatest age of the rows that wait by severity, also of one without
    /// waiting rows, so that it is 0. An unrouted notification is not late unless it is critical:
    /// operators are notified of it in another way.
    async fn measure(&self, failing: Vec<(i64, Channel)>) -> sqlx::Result<OutboxMeasurement> {
        let query = format!(
            "SELECT severity, COUNT(*), CAST({NOW_MS} - MIN(IF(state = 'unrouted' AND severity < ?, \
             {NOW_MS}, created_at)) AS SIGNED) FROM t_alert_outbox \
             WHERE state IN ('pending', 'in_digest', 'unrouted') GROUP BY severity"
        );
        let query = sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(Severity::Critical.number());
        let rows: Vec<(i8, i64, i64)> = query.fetch_all(&self.pool).await?;
        let depth = |severity: Severity| {
            let row = rows.iter().find(|(number, ..)| *number == severity.number());
            let (_, count, age_ms) = row.copied().unwrap_or_default();
            (count, from_milliseconds(age_ms))
        };
        for severity in Severity::ALL {
            let (count, age) = depth(severity);
            gauge!(OUTBOX_DEPTH, "severity" => severity.as_str()).set(count as f64);
            gauge!(OUTBOX_OLDEST_SECONDS, "severity" => severity.as_str()).set(age.as_secs_f64());
        }
        // A row without a claim comes from a refused digest and is yet to be routed.
        let query = "SELECT customer_id, CAST(COUNT(*) AS UNSIGNED) FROM t_alert_outbox \
                     WHERE state = 'unrouted' AND lease_owner IS NOT NULL AND severity >= ? \
                     GROUP BY customer_id";
        let query = sqlx::query_as(query).bind(Severity::Major.number());
        let unrouted: Vec<(i64, u64)> = query.fetch_all(&self.pool).await?;
        Ok(OutboxMeasurement {
            at: Instant::now(),
            critical_age: depth(Severity::Critical).1,
            due_for: self.due_for(&failing).await?,
            unrouted: unrouted.into_iter().collect(),
        })
    }
}
