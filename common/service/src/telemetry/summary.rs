//! Logs the minute summary, so that a quiet log shows a running process.

use std::fmt::Write;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::recorder::MetricsHandle;

/// Interval of the minute summary.
const INTERVAL: Duration = Duration::from_secs(60);

/// How the values of a metric become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SummaryFormat {
    /// Increase of a counter, summed over all its labels.
    Growth,
    /// Largest present value of a gauge, over all its labels.
    Largest,
    /// Sum of the present values of a gauge, over all its labels.
    Sum,
}

/// One item of the minute summary.
#[derive(Debug, Clone, Copy)]
pub struct SummaryItem {
    /// Name of the item in the summary.
    pub word: &'static str,
    /// Name of the metric.
    pub metric: &'static str,
    /// Label of the values, as `name="value"`. Empty: any label.
    pub label: &'static str,
    /// How the values become one number.
    pub shown: SummaryFormat,
    /// Unit behind the value.
    pub unit: &'static str,
}

impl SummaryItem {
    /// Shows the increase of a counter.
    pub const fn growth(word: &'static str, metric: &'static str, label: &'static str) -> Self {
        Self { word, metric, label, shown: SummaryFormat::Growth, unit: "" }
    }

    /// Shows the present value of a gauge.
    pub const fn gauge(word: &'static str, metric: &'static str, shown: SummaryFormat) -> Self {
        Self { word, metric, label: "", shown, unit: "" }
    }

    /// Shows the largest value of a gauge, in seconds.
    pub const fn seconds(word: &'static str, metric: &'static str) -> Self {
        Self { word, metric, label: "", shown: SummaryFormat::Largest, unit: " s" }
    }
}

/// Logs the minute summary until `stop`.
pub(super) async fn run(
    items: &'static [SummaryItem],
    metrics: MetricsHandle,
    stop: CancellationToken,
) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut before = values(items, &metrics.render());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = values(items, &metrics.render());
        info!("minute summary: {}", line(items, &before, &now));
        before = now;
    }
}

/// Reads the items' values from a rendered text.
fn values(items: &[SummaryItem], text: &str) -> Vec<f64> {
    items.iter().map(|item| value(item, text)).collect()
}

fn value(item: &SummaryItem, text: &str) -> f64 {
    let found = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(item.metric)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        labels.contains(item.label).then(|| value.parse::<f64>().ok()).flatten()
    });
    match item.shown {
        SummaryFormat::Largest => found.fold(0.0, f64::max),
        SummaryFormat::Growth | SummaryFormat::Sum => found.sum(),
    }
}

fn line(items: &[SummaryItem], before: &[f64], now: &[f64]) -> String {
    let mut line = String::new();
    for ((item, before), now) in items.iter().zip(before).zip(now) {
        let value = if item.shown == SummaryFormat::Growth { now - before } else { *now };
        let separator = if line.is_empty() { "" } else { ", " };
        // Write whole numbers without decimals. Writing to a String cannot fail.
        let _ = if value.fract() == 0.0 {
            write!(line, "{separator}{} {value:.0}{}", item.word, item.unit)
        } else {
            write!(line, "{separator}{} {value:.1}{}", item.word, item.unit)
        };
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_grew_and_what_stands() {
        const ITEMS: &[SummaryItem] = &[
            SummaryItem::growth("stored", "readings_total", "outcome=\"stored\""),
            SummaryItem::growth("all", "readings_total", ""),
            SummaryItem::seconds("oldest", "lag_seconds"),
            SummaryItem::gauge("lag", "lag_records", SummaryFormat::Sum),
        ];
        let before = values(ITEMS, "readings_total{outcome=\"stored\"} 5\n");
        let text = "# TYPE readings_total counter\nreadings_total{outcome=\"stored\"} 12\n\
                    readings_total{outcome=\"merged\"} 2\nreadings_total_more 9\n\
                    lag_seconds{partition=\"0\"} 1.25\nlag_seconds{partition=\"1\"} 0\n\
                    lag_records{partition=\"0\"} 3\nlag_records{partition=\"1\"} 4\n";
        let now = values(ITEMS, text);
        assert_eq!(line(ITEMS, &before, &now), "stored 7, all 9, oldest 1.2 s, lag 7");
    }
}
