//! Exports spans to the collector and counts their outcomes. A slow or unreachable collector costs
//! spans and nothing else.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use metrics::{counter, gauge};
use opentelemetry::trace::TracerProvider;
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig, Identity};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData,
    SpanExporter as ExportSpans, SpanProcessor,
};

use tracing::{info, warn};

use super::process::host_name;
use super::trace::{self, PrioritySampler};
use crate::link::Tls;
use crate::metrics::{SPANS, SPANS_WAITING};

/// Most spans that wait for the collector. Further spans are dropped; nothing waits for room.
const SPANS_WAITING_MAX: usize = 65_536;

/// Most spans of one export.
const SPANS_EXPORT_MAX: usize = 2_048;

/// Interval of the exports.
const EXPORT_INTERVAL: Duration = Duration::from_millis(500);

/// Creates a tracer for this process that exports to `endpoint`, with TLS if `tls` is given.
pub(super) fn provider(
    service: &'static str,
    endpoint: &str,
    tls: Option<&Tls>,
    sample_ratio: f64,
) -> anyhow::Result<SdkTracerProvider> {
    let mut exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint);
    if let Some(tls) = tls {
        exporter = exporter.with_tls_config(tls_config(tls)?);
    }
    let exporter = exporter.build()?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(SPANS_WAITING_MAX)
        .with_max_export_batch_size(SPANS_EXPORT_MAX)
        .with_scheduled_delay(EXPORT_INTERVAL)
        .build();
    let waiting = SpanQueue::default();
    let failing = AtomicBool::new(false);
    let exporter = CountedExporter { exporter, waiting: waiting.clone(), failing };
    let batches = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sample_ratio)));
    let instance = format!("{}:{}", host_name(), std::process::id());
    let provider = SdkTracerProvider::builder()
        .with_span_processor(CountedProcessor { batches, waiting })
        .with_sampler(PrioritySampler(sampler))
        .with_resource(
            Resource::builder()
                .with_service_name(service)
                .with_attribute(KeyValue::new("service.instance.id", instance))
                .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
                .build(),
        )
        .build();
    trace::install(provider.tracer("ljwx-ingest"));
    Ok(provider)
}

fn tls_config(tls: &Tls) -> anyhow::Result<ClientTlsConfig> {
    let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
    let mut config = ClientTlsConfig::new().with_enabled_roots();
    if let Some(ca) = &tls.ca {
        config = config.ca_certificate(Certificate::from_pem(read(ca)?));
    }
    if let Some((cert, key)) = &tls.identity {
        config = config.identity(Identity::from_pem(read(cert)?, read(key)?));
    }
    Ok(config)
}

/// Counts the waiting spans. The SDK drops excess spans without a count.
#[derive(Debug, Clone, Default)]
struct SpanQueue(Arc<AtomicUsize>);

impl SpanQueue {
    /// Counts one more span. Returns `false` if there is no room for the span.
    fn admit(&self) -> bool {
        let room = |waiting| (waiting < SPANS_WAITING_MAX).then_some(waiting + 1);
        let admitted = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok();
        if !admitted {
            counter!(SPANS, "outcome" => "dropped").increment(1);
        }
        admitted
    }

    /// Removes `count` spans with this outcome.
    fn gone(&self, count: usize, outcome: &'static str) {
        counter!(SPANS, "outcome" => outcome).increment(count as u64);
        let before = self.0.fetch_sub(count, Ordering::Relaxed);
        gauge!(SPANS_WAITING).set(before.saturating_sub(count) as f64);
    }
}

/// Passes on the spans for which there is room.
#[derive(Debug)]
struct CountedProcessor {
    batches: BatchSpanProcessor,
    waiting: SpanQueue,
}

impl SpanProcessor for CountedProcessor {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        // Unsampled spans are never exported.
        if span.span_context.is_sampled() && self.waiting.admit() {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Counts the spans of each export by outcome.
#[derive(Debug)]
struct CountedExporter<E> {
    exporter: E,
    waiting: SpanQueue,
    /// Whether the last export failed, so that an outage is logged once.
    failing: AtomicBool,
}

impl<E: ExportSpans> ExportSpans for CountedExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = self.exporter.export(batch).await;
        self.waiting.gone(count, if result.is_ok() { "sent" } else { "failed" });
        let failed_before = self.failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !failed_before => warn!(%error, "cannot export spans, dropping them"),
            Ok(()) if failed_before => info!("span export recovered"),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_dropped_and_does_not_wait() {
        let waiting = SpanQueue::default();
        let admitted = (0..SPANS_WAITING_MAX + 5).filter(|_| waiting.admit()).count();
        assert_eq!(admitted, SPANS_WAITING_MAX);
        waiting.gone(SPANS_EXPORT_MAX, "failed");
        assert!(waiting.admit());
    }
}
