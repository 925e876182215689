//! Declares metrics, each once, by name, type, labels and meaning; here are those that this crate sets.
//!
//! The other crates declare theirs in their own `metrics` modules. A test compares `docs/metrics.md`
//! with all declarations.

use metrics::{counter, describe_counter, describe_gauge, describe_histogram};

/// Buckets of every histogram in seconds: 1 ms to 60 s, with the objectives' 1 s and 3 s.
pub const SECONDS_BUCKETS: [f64; 17] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0,
    60.0,
];

/// Buckets of histograms that count records.
pub const RECORDS_BUCKETS: [f64; 10] =
    [1.0, 5.0, 20.0, 50.0, 100.0, 200.0, 350.0, 500.0, 700.0, 1000.0];

/// What a metric's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values by size.
    Histogram,
}

/// A metric as it was declared.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Its meaning.
    pub help: &'static str,
}

impl Metric {
    /// Whether it is a histogram of numbers of records; by convention the others, in seconds, are
    /// named so.
    pub fn counts_records(&self) -> bool {
        self.kind == Kind::Histogram && !self.name.ends_with("_seconds")
    }
}

/// A counter of one label, and the label's values that are shown at 0 from the start: the first
/// increase of a series that was not there before is none to Prometheus.
pub type Zeros = (&'static str, &'static str, &'static [&'static str]);

/// Declares metrics: `/// Meaning.` and `Kind NAME = "name" by "label", "label";`. Makes a constant of
/// each name, and `DECLARED` of all.
#[macro_export]
macro_rules! declare_metrics {
    ($($(#[doc = $help:literal])+ $kind:ident $name:ident = $text:literal $(by $($label:literal),+)?;)+) => {
        $($(#[doc = $help])+ pub const $name: &str = $text;)+

        /// All of the above.
        pub const DECLARED: &[$crate::metrics::Metric] = &[$($crate::metrics::Metric {
            name: $text,
            kind: $crate::metrics::Kind::$kind,
            labels: &[$($($label),+)?],
            help: concat!($($help),+),
        }),+];
    };
}

declare_metrics! {
    /// Always 1.
    Gauge BUILD_INFO = "build_info" by "service", "version";
    /// What the process may use of memory, in bytes.
    Gauge MEMORY_LIMIT = "process_memory_limit_bytes";
    /// Spans by outcome: sent, failed, dropped.
    Counter SPANS = "spans_total" by "outcome";
    /// Spans that wait for the collector.
    Gauge SPANS_WAITING = "spans_waiting";
    /// Log lines of level warn and error.
    Counter LOG_LINES = "log_lines_total" by "level";

    /// Records waiting for Kafka.
    Gauge PRODUCER_QUEUE_RECORDS = "producer_queue_records";
    /// How long no broker has been reachable; 0 while one is.
    Gauge PRODUCER_UNREACHABLE_SECONDS = "producer_unreachable_seconds";
    /// 1 while connected to this broker.
    Gauge BROKER_UP = "producer_broker_up" by "broker";
    /// A request's way to this broker and back.
    Gauge BROKER_RTT_SECONDS = "producer_broker_rtt_seconds" by "broker", "statistic";

    /// 1 where the connection is unencrypted and leads beyond this machine.
    Gauge CONNECTION_PLAINTEXT = "connection_plaintext" by "dependency";
    /// 1 where the connection is encrypted and the server's certificate is not verified.
    Gauge CONNECTION_UNVERIFIED = "connection_unverified" by "dependency";
    /// When the main loop turned last, in seconds since 1970.
    Gauge LOOP_TURNED = "loop_turned_timestamp_seconds";
}

/// What every process shows at 0 from the start.
pub const ZEROS: &[Zeros] =
    &[(SPANS, "outcome", &["sent", "failed", "dropped"]), (LOG_LINES, "level", &["warn", "error"])];

/// Gives the recorder of this process the meanings of `metrics`.
pub fn describe(metrics: &[Metric]) {
    for metric in metrics {
        let (name, help) = (metric.name, metric.help.trim());
        match metric.kind {
            Kind::Counter => describe_counter!(name, help),
            Kind::Gauge => describe_gauge!(name, help),
            Kind::Histogram => describe_histogram!(name, help),
        }
    }
}

/// Shows counters at 0: those without labels, and these label values.
pub fn show_zeros(metrics: &[Metric], zeros: &[Zeros]) {
    let plain = metrics.iter().filter(|metric| metric.kind == Kind::Counter);
    for metric in plain.filter(|metric| metric.labels.is_empty()) {
        counter!(metric.name).increment(0);
    }
    for (name, label, values) in zeros {
        for value in *values {
            counter!(*name, *label => *value).increment(0);
        }
    }
}

/// 1 or 0.
pub fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

/// One more on a gauge for as long as this lives.
#[derive(Debug)]
pub struct Counted(&'static str);

impl Counted {
    /// Counts one more.
    pub fn begin(gauge: &'static str) -> Self {
        metrics::gauge!(gauge).increment(1.0);
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!(self.0).decrement(1.0);
    }
}
