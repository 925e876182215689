//! Measures the notifications that wait, by severity, and how long due ones wait, beside the sender: the
//! metrics of a sender that stands still would stand still at their last values.

use std::collections::{BTreeMap, HashMap};
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

/// The label of rows whose notice holds no severity.
const UNKNOWN: &str = "unknown";

/// Number and greatest age, in milliseconds, of the rows of one severity that wait.
type Depth = (i64, i64);

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
/// account fails: their notifications wait, and operators have heard why.
pub async fn monitor(
    outbox: Outbox,
    failing: impl Fn() -> Vec<(i64, Channel)> + Send,
    measurements: watch::Sender<Option<OutboxMeasurement>>,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(MEASURE_INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let measured = tokio::select! {
            () = stop.cancelled() => return,
            measured = outbox.measure(failing()) => measured,
        };
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
        let depths = by_label(&self.depth().await?);
        export(&depths);
        let (_, critical_ms) = depths.get(Severity::Critical.as_str()).copied().unwrap_or_default();
        let due = self.due(&failing, &[]).await?;
        let due_ms = due.iter().map(|row| row.due_ms).max().unwrap_or_default();
        Ok(OutboxMeasurement {
            at: Instant::now(),
            critical_age: milliseconds(critical_ms),
            due_for: milliseconds(due_ms),
            unrouted: self.unrouted().await?,
        })
    }

    async fn unrouted(&self) -> Result<BTreeMap<i64, u64>, sqlx::Error> {
        let query = "SELECT customer_id, COUNT(*) FROM t_alert_outbox \
                     WHERE state = 'unrouted' AND severity >= ? GROUP BY customer_id";
        let query = sqlx::query_as(query).bind(Severity::Major.number());
        let counts: Vec<(i64, i64)> = query.fetch_all(&self.pool).await?;
        Ok(counts.into_iter().map(|(id, count)| (id, u64::try_from(count).unwrap_or(0))).collect())
    }

    async fn depth(&self) -> Result<Vec<(Option<String>, i64, i64)>, sqlx::Error> {
        // JSON_VALID: one notice that cannot be read must not fail the query.
        let query = format!(
            "SELECT CAST(IF(JSON_VALID(notice), JSON_UNQUOTE(JSON_EXTRACT(notice, '$.severity')), \
             NULL) AS CHAR(16)) AS severity, COUNT(*), \
             CAST({NOW_MS} - MIN(created_at) AS SIGNED) FROM t_alert_outbox \
             WHERE state IN ('pending', 'in_digest', 'unrouted') GROUP BY severity"
        );
        sqlx::query_as(sqlx::AssertSqlSafe(query)).fetch_all(&self.pool).await
    }
}

fn milliseconds(count: i64) -> Duration {
    Duration::from_millis(u64::try_from(count).unwrap_or_default())
}

fn export(depths: &HashMap<&'static str, Depth>) {
    for label in labels() {
        let (count, age_ms) = depths.get(label).copied().unwrap_or_default();
        gauge!(OUTBOX_DEPTH, "severity" => label).set(count as f64);
        gauge!(OUTBOX_OLDEST_SECONDS, "severity" => label).set(age_ms.max(0) as f64 / 1000.0);
    }
}

/// Returns the depths by label. Every label is exported, so that a severity without pending rows
/// is 0.
fn by_label(rows: &[(Option<String>, i64, i64)]) -> HashMap<&'static str, Depth> {
    let mut depths: HashMap<&'static str, Depth> = HashMap::new();
    for (severity, count, age_ms) in rows {
        let severity = severity.as_deref().and_then(Severity::from_word);
        let depth = depths.entry(severity.map_or(UNKNOWN, Severity::as_str)).or_default();
        *depth = (depth.0 + count, depth.1.max(*age_ms));
    }
    depths
}

fn labels() -> impl Iterator<Item = &'static str> {
    Severity::ALL.into_iter().map(Severity::as_str).chain([UNKNOWN])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_without_a_severity_are_counted_under_a_label_of_their_own() {
        let row = |word: Option<&str>, count, age_ms| (word.map(str::to_owned), count, age_ms);
        let rows = [
            row(Some("critical"), 2, 7_000),
            row(None, 1, 9_000),
            row(Some("grave"), 3, 1_000),
            row(Some("info"), 4, 0),
        ];
        let expected =
            HashMap::from([("critical", (2, 7_000)), (UNKNOWN, (4, 9_000)), ("info", (4, 0))]);
        assert_eq!(by_label(&rows), expected);
        assert!(by_label(&rows).keys().all(|label| labels().any(|one| one == *label)));
    }
}
