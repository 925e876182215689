//! Logs, metrics and spans of one process, set up once and flushed at its end.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider,
};
use tracing::warn;
use tracing_subscriber::EnvFilter;

use crate::config::Problems;
use crate::metrics::SECONDS_BUCKETS;
use crate::trace::PrioritySampler;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// Text, for people.
    Human,
}

/// Settings of logs and spans.
#[derive(Debug, Clone, clap::Args)]
pub struct TelemetryArgs {
    /// What to log, as a filter such as info or worker=debug,info.
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// How log lines look.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,
    /// OTLP collector (Jaeger) for spans, as `http://host:4317`; none: no spans are sent.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// Share of traces begun here that are recorded, 0 to 1; a caller's own decision is honoured.
    #[arg(long, env = "TRACE_SAMPLE_RATIO", default_value_t = 0.01)]
    pub trace_sample_ratio: f64,
}

/// Spans waiting for the collector; beyond it they are dropped, never waited for.
const SPANS_WAITING_MAX: usize = 65_536;

/// Spans of one export.
const SPANS_EXPORT_MAX: usize = 2_048;

/// How often spans are sent.
const EXPORT_INTERVAL: Duration = Duration::from_millis(500);

/// How long the last spans may take at the end of the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

impl TelemetryArgs {
    /// Notes what is wrong with the settings.
    pub fn validate(&self, problems: &mut Problems) {
        problems.require((0.0..=1.0).contains(&self.trace_sample_ratio), || {
            "--trace-sample-ratio must lie between 0 and 1".into()
        });
        problems.require(EnvFilter::try_new(&self.log_level).is_ok(), || {
            "--log-level must be a filter such as info or worker=debug,info".into()
        });
    }

    /// Installs logs, metrics and spans for this process under `service`'s name.
    pub fn init(&self, service: &'static str) -> anyhow::Result<Telemetry> {
        let filter = EnvFilter::try_new(&self.log_level).context("--log-level")?;
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        match self.log_format {
            LogFormat::Json => subscriber.json().flatten_event(true).init(),
            LogFormat::Human => subscriber.with_target(false).init(),
        }
        let prometheus = PrometheusBuilder::new()
            .set_buckets(&SECONDS_BUCKETS)
            .context("histogram buckets")?
            .install_recorder()
            .context("metrics recorder")?;
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        let spans = self.otlp_endpoint.as_deref().map(|endpoint| self.spans(service, endpoint));
        let spans = spans.transpose().context("--otlp-endpoint")?;
        Ok(Telemetry { prometheus, spans })
    }

    fn spans(&self, service: &'static str, endpoint: &str) -> anyhow::Result<SdkTracerProvider> {
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(SPANS_WAITING_MAX)
            .with_max_export_batch_size(SPANS_EXPORT_MAX)
            .with_scheduled_delay(EXPORT_INTERVAL)
            .build();
        let sampler =
            Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(self.trace_sample_ratio)));
        let instance = format!("{}:{}", host_name(), std::process::id());
        let provider = SdkTracerProvider::builder()
            .with_span_processor(
                BatchSpanProcessor::builder(exporter).with_batch_config(batches).build(),
            )
            .with_sampler(PrioritySampler(sampler))
            .with_resource(
                Resource::builder()
                    .with_service_name(service)
                    .with_attribute(KeyValue::new("service.instance.id", instance))
                    .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
                    .build(),
            )
            .build();
        crate::trace::install(provider.tracer("ljwx-ingest"));
        Ok(provider)
    }
}

/// This machine's name, as other machines' logs will show it.
pub fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

/// The telemetry of this process.
#[derive(Debug)]
pub struct Telemetry {
    prometheus: PrometheusHandle,
    spans: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// What `/metrics` renders.
    pub fn prometheus(&self) -> PrometheusHandle {
        self.prometheus.clone()
    }

    /// Sends the last spans, within a bound.
    pub async fn shutdown(self) {
        let Some(spans) = self.spans else { return };
        let flushed =
            tokio::task::spawn_blocking(move || spans.shutdown_with_timeout(FLUSH_TIMEOUT)).await;
        if !matches!(flushed, Ok(Ok(()))) {
            warn!("the last spans could not be sent");
        }
    }
}
