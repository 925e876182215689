//! Declares metrics, each once, by name, type, labels and meaning, and holds the metrics that this
//! crate sets.
//!
//! The other crates declare their metrics in `metrics` modules of their own. A test compares
//! `docs/metrics.md` with all declarations.

use metrics::{counter, describe_counter, describe_gauge, describe_histogram};

/// Buckets of every histogram in seconds: 1 ms to 60 s, with the objectives' 1 s and 3 s.
pub const SECONDS_BUCKETS: [f64; 17] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0,
    60.0,
];

/// Buckets of histograms that count records.
pub const RECORDS_BUCKETS: [f64; 10] =
    [1.0, 5.0, 20.0, 50.0, 100.0, 200.0, 350.0, 500.0, 700.0, 1000.0];

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only increases.
    Counter,
    /// Increases and decreases.
    Gauge,
    /// Counts values by size.
    Histogram,
}

/// The declaration of a metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Name of the metric.
    pub name: &'static str,
    /// The type.
    pub kind: MetricKind,
    /// Names of the labels.
    pub labels: &'static [&'static str],
    /// The meaning, as the help text.
    pub help: &'static str,
}

impl Metric {
    /// Whether the metric is a histogram of record counts. By convention the names of all other
    /// histograms end in `_seconds`.
    pub fn counts_records(&self) -> bool {
        self.kind == MetricKind::Histogram && !self.name.ends_with("_seconds")
    }
}

/// A counter with one label, and the label values that are exported as 0 from the start. Prometheus
/// cannot see the first increment of a series that did not exist.
pub type ZeroedCounter = (&'static str, &'static str, &'static [&'static str]);

/// Declares metrics from `/// Meaning.` and `Kind NAME = "name" by "label", "label";`. Creates a
/// constant for each name, and `DECLARED` with all metrics.
#[macro_export]
macro_rules! declare_metrics {
    ($($(#[doc = $help:literal])+ $kind:ident $name:ident = $text:literal $(by $($label:literal),+)?;)+) => {
        $($(#[doc = $help])+ pub const $name: &str = $text;)+

        /// All metrics declared above.
        pub const DECLARED: &[$crate::metrics::Metric] = &[$($crate::metrics::Metric {
            name: $text,
            kind: $crate::metrics::MetricKind::$kind,
            labels: &[$($($label),+)?],
            help: concat!($($help),+),
        }),+];
    };
}

declare_metrics! {
    /// Always 1.
    Gauge BUILD_INFO = "build_info" by "service", "version";
    /// Memory that the process may use, in bytes.
    Gauge MEMORY_LIMIT = "process_memory_limit_bytes";
    /// Time of this host's clock, in seconds since 1970.
    Gauge CLOCK_SECONDS = "clock_seconds";
    /// Spans by outcome: sent, failed, dropped.
    Counter SPANS = "spans_total" by "outcome";
    /// Spans waiting for the collector.
    Gauge SPANS_WAITING = "spans_waiting";
    /// Log lines of level warn and error.
    Counter LOG_LINES = "log_lines_total" by "level";

    /// Calls of the admin port with a wrong token, or without one.
    Counter ADMIN_UNAUTHORIZED = "admin_unauthorized_total";

    /// Records waiting for Kafka.
    Gauge PRODUCER_QUEUE_RECORDS = "producer_queue_records";
    /// Age of the oldest record that Kafka has not acknowledged; 0 without such a record.
    Gauge PRODUCER_ACK_AGE_SECONDS = "producer_ack_age_seconds";
    /// Time for which Kafka has been stalled; 0 while it acknowledges records.
    Gauge PRODUCER_STALLED_SECONDS = "producer_stalled_seconds";
    /// 1 while connected to this broker.
    Gauge BROKER_UP = "producer_broker_up" by "broker";
    /// Round trip of a request to this broker.
    Gauge BROKER_RTT_SECONDS = "producer_broker_rtt_seconds" by "broker", "statistic";

    /// 1 while this setting of the topic is unsafe, whether refused or only warned of.
    Gauge TOPIC_UNSAFE = "kafka_topic_unsafe" by "topic", "setting";

    /// 1 if the connection is unencrypted and leaves this machine.
    Gauge CONNECTION_PLAINTEXT = "connection_plaintext" by "dependency";
    /// 1 if the connection is encrypted and the server's certificate is not verified.
    Gauge CONNECTION_UNVERIFIED = "connection_unverified" by "dependency";
    /// Last heartbeat of the main loop, in seconds since 1970.
    Gauge LOOP_HEARTBEAT = "loop_heartbeat_timestamp_seconds";
}

/// Counters that every process exports as 0 from the start.
pub const ZEROS: &[ZeroedCounter] =
    &[(SPANS, "outcome", &["sent", "failed", "dropped"]), (LOG_LINES, "level", &["warn", "error"])];

/// Registers the help texts of `metrics` with the recorder of this process.
pub fn describe(metrics: &[Metric]) {
    for metric in metrics {
        let (name, help) = (metric.name, metric.help.trim());
        match metric.kind {
            MetricKind::Counter => describe_counter!(name, help),
            MetricKind::Gauge => describe_gauge!(name, help),
            MetricKind::Histogram => describe_histogram!(name, help),
        }
    }
}

/// Exports counters as 0: those of `metrics` without labels, and the label values of `zeros`.
pub fn export_zeros(metrics: &[Metric], zeros: &[ZeroedCounter]) {
    let plain = metrics.iter().filter(|metric| metric.kind == MetricKind::Counter);
    for metric in plain.filter(|metric| metric.labels.is_empty()) {
        counter!(metric.name).increment(0);
    }
    for (name, label, values) in zeros {
        for value in *values {
            counter!(*name, *label => *value).increment(0);
        }
    }
}

/// Returns 1 for `true`, 0 for `false`.
pub fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

/// Keeps a gauge raised by one until it is dropped.
#[derive(Debug)]
pub struct GaugeGuard(&'static str);

impl GaugeGuard {
    /// Raises the gauge by one.
    pub fn begin(gauge: &'static str) -> Self {
        metrics::gauge!(gauge).increment(1.0);
        Self(gauge)
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        metrics::gauge!(self.0).decrement(1.0);
    }
}
