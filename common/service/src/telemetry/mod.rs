//! Sets up logs, metrics and spans of one process, and exports the last spans at its end.
//!
//! Leaves the content to the modules that log, count and trace.

mod logs;
mod process;
mod recorder;
mod span_export;
mod summary;
pub mod trace;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use metrics::gauge;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use url::Url;

pub use self::logs::{AUDIT, LogFormat, LogLevel};
pub use self::process::host_name;
pub use self::recorder::MetricsHandle;
pub use self::summary::{SummaryFormat, SummaryItem};
use crate::VERSION;
use crate::config::Problems;
use crate::link::{ConnectionSecurity, Tls};
use crate::metrics::{BUILD_INFO, Metric, ZeroedCounter};

/// Settings of logs, metrics and spans.
#[derive(Debug, Clone, clap::Args)]
pub struct TelemetryArgs {
    /// Log filter, such as info or ljwx=debug,info. PUT /loglevel changes the filter of a running
    /// service for an hour.
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// Form of log lines.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,
    /// OTLP collector (Jaeger) for spans, as `http://host:4317`, or https:// with TLS. None or
    /// empty: no spans are exported.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// PEM file of authorities that are trusted for the collector, in addition to the machine's.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_CERTIFICATE")]
    pub otlp_certificate: Option<PathBuf>,
    /// PEM file of this service's own certificate for the collector.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE")]
    pub otlp_client_certificate: Option<PathBuf>,
    /// PEM file of the key of that certificate.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_CLIENT_KEY")]
    pub otlp_client_key: Option<PathBuf>,
    /// Share of traces begun here that are sampled, 0 to 1. Callers that the gateway trusts decide
    /// for their own traces.
    #[arg(long, env = "TRACE_SAMPLE_RATIO", default_value_t = 0.01)]
    pub trace_sample_ratio: f64,
    /// Memory that the process may use, in bytes, as the base of its used share and of its bounds.
    /// Unset: the limit of its control group, else the machine's memory.
    #[arg(long, env = "MEMORY_LIMIT")]
    pub memory_limit: Option<u64>,
}

/// Longest time for the export of the last spans at the end of the process.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// A service as its telemetry describes it.
#[derive(Debug, Clone, Copy)]
pub struct ServiceInfo {
    /// Name in spans and metrics.
    pub name: &'static str,
    /// Declared metrics: the service's own, then those of each library that it uses. The metrics of
    /// this crate are added.
    pub metrics: &'static [&'static [Metric]],
    /// Label values that counters export as 0 from the start.
    pub zeros: &'static [ZeroedCounter],
    /// Items of the minute summary.
    pub summary: &'static [SummaryItem],
}

impl TelemetryArgs {
    /// Adds the problems of these settings.
    pub fn validate(&self, problems: &mut Problems) {
        problems.require((0.0..=1.0).contains(&self.trace_sample_ratio), || {
            "--trace-sample-ratio must lie between 0 and 1".into()
        });
        problems.require(logs::is_filter(&self.log_level), || {
            "--log-level must be a filter such as info or ljwx=debug,info".into()
        });
        problems.require(self.memory_limit != Some(0), || {
            "--memory-limit must be above 0; leave it out for the control group's".into()
        });
        if let Err(problem) = self.collector() {
            problems.add(format!("--otlp-endpoint: {problem}"));
        }
    }

    /// Returns the collector's URL and TLS, if a collector is configured.
    fn collector(&self) -> Result<Option<(Url, Option<Tls>)>, String> {
        let Some(endpoint) = self.otlp_endpoint.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let url = Url::parse(endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or("must read http://host:4317 or https://host:4317")?;
        let [ca, cert, key] =
            [&self.otlp_certificate, &self.otlp_client_certificate, &self.otlp_client_key];
        if url.scheme() == "https" {
            let tls = Tls::new(ca.clone(), cert.clone(), key.clone(), true)?;
            return Ok(Some((url, Some(tls))));
        }
        if [ca, cert, key].iter().any(|file| file.is_some()) {
            return Err("certificates need TLS: write https://".into());
        }
        Ok(Some((url, None)))
    }

    /// Returns how the connection to the collector is secured, if a collector is configured.
    pub fn link(&self) -> Option<ConnectionSecurity> {
        let (url, tls) = self.collector().ok()??;
        Some(ConnectionSecurity::new("otlp", vec![url.host_str()?.to_owned()], tls.as_ref()))
    }

    /// Returns the memory that the process may use, in bytes, if known.
    pub fn memory_limit(&self) -> Option<u64> {
        self.memory_limit.or_else(process::memory_limit)
    }

    /// Installs logs, metrics and spans for this process.
    pub fn init(&self, service: ServiceInfo) -> anyhow::Result<Telemetry> {
        let metrics = MetricsHandle::install(service.metrics, service.zeros, self.memory_limit)?;
        gauge!(BUILD_INFO, "service" => service.name, "version" => VERSION).set(1.0);
        let log_level = logs::install(&self.log_level, self.log_format)?;
        let spans = self.collector().map_err(anyhow::Error::msg).context("--otlp-endpoint")?.map(
            |(url, tls)| {
                span_export::provider(
                    service.name,
                    url.as_str(),
                    tls.as_ref(),
                    self.trace_sample_ratio,
                )
            },
        );
        let spans = spans.transpose().context("--otlp-endpoint")?;
        Ok(Telemetry { metrics, log_level, service, spans })
    }
}

/// The telemetry of this process.
#[derive(Debug)]
pub struct Telemetry {
    metrics: MetricsHandle,
    log_level: LogLevel,
    service: ServiceInfo,
    spans: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Returns the metrics.
    pub fn metrics(&self) -> MetricsHandle {
        self.metrics.clone()
    }

    /// Returns the handle of the log filter.
    pub fn log_level(&self) -> LogLevel {
        self.log_level.clone()
    }

    /// Logs the minute summary until `stop`.
    pub fn summarise(&self, stop: CancellationToken) {
        tokio::spawn(summary::run(self.service.summary, self.metrics.clone(), stop));
    }

    /// Exports the last spans within [`FLUSH_TIMEOUT`].
    pub async fn shutdown(self) {
        let Some(spans) = self.spans else { return };
        let flushed =
            tokio::task::spawn_blocking(move || spans.shutdown_with_timeout(FLUSH_TIMEOUT));
        // A collector that becomes unreachable during a call may exceed the SDK's own bound.
        let flushed = tokio::time::timeout(FLUSH_TIMEOUT, flushed).await;
        if !matches!(flushed, Ok(Ok(Ok(())))) {
            warn!("cannot export the last spans, dropping them");
        }
    }
}
