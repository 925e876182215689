//! Measures the notifications that wait, by severity, and how long due ones wait, beside the sender: the
//! metrics of a sender that stands still would stand still at their last values.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use metrics::gauge;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::metrics::{OUTBOX_DEPTH, OUTBOX_OLDEST_SECONDS};
use crate::notify::outbox::table::{NOW_MS, Outbox};
use crate::rules::channel::Channel;
use crate::rules::severity::Severity;

/// Interval at which the outbox is measured.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);

/// Number and greatest age, in milliseconds, of the rows that wait, by the number of their severity.
type Depths = BTreeMap<i8, (i64, i64)>;

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
            Ok(measurement) => {
                measurements.send_replace(Some(measurement));
            }
            Err(error) => debug!(%error, "cannot measure the outbox, retrying"),
        }
    }
}

impl Outbox {
    async fn measure(
        &self,
        failing: Vec<(i64, Channel)>,
    ) -> Result<OutboxMeasurement, sqlx::Error> {
        let depths = self.depths().await?;
        export(&depths);
        let (_, critical_ms) =
            depths.get(&Severity::Critical.number()).copied().unwrap_or_default();
        Ok(OutboxMeasurement {
            at: Instant::now(),
            critical_age: milliseconds(critical_ms),
            due_for: milliseconds(self.due_for(&failing).await?),
            unrouted: self.unrouted().await?,
        })
    }

    async fn unrouted(&self) -> Result<BTreeMap<i64, u64>, sqlx::Error> {
        // A row without a claim comes from a refused digest and is yet to be routed.
        let query = "SELECT customer_id, COUNT(*) FROM t_alert_outbox WHERE state = 'unrouted' \
                     AND lease_owner IS NOT NULL AND severity >= ? GROUP BY customer_id";
        let query = sqlx::query_as(query).bind(Severity::Major.number());
        let counts: Vec<(i64, i64)> = query.fetch_all(&self.pool).await?;
        Ok(counts.into_iter().map(|(id, count)| (id, u64::try_from(count).unwrap_or(0))).collect())
    }

    /// Returns the depth of each severity. An unrouted notification is not late unless it is critical:
    /// operators are notified of it in another way.
    async fn depths(&self) -> Result<Depths, sqlx::Error> {
        let query = format!(
            "SELECT severity, COUNT(*), CAST({NOW_MS} - MIN(IF(state = 'unrouted' AND severity < ?, \
             {NOW_MS}, created_at)) AS SIGNED) FROM t_alert_outbox \
             WHERE state IN ('pending', 'in_digest', 'unrouted') GROUP BY severity"
        );
        let query = sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(Severity::Critical.number());
        let rows: Vec<(i8, i64, i64)> = query.fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|(severity, count, ms)| (severity, (count, ms))).collect())
    }
}

fn milliseconds(count: i64) -> Duration {
    Duration::from_millis(u64::try_from(count).unwrap_or_default())
}

/// Exports every severity, so that one without waiting rows is 0.
fn export(depths: &Depths) {
    for severity in Severity::ALL {
        let (count, age_ms) = depths.get(&severity.number()).copied().unwrap_or_default();
        gauge!(OUTBOX_DEPTH, "severity" => severity.as_str()).set(count as f64);
        gauge!(OUTBOX_OLDEST_SECONDS, "severity" => severity.as_str())
            .set(age_ms.max(0) as f64 / 1000.0);
    }
}
