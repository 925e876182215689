//! Starts spans, and reads and writes trace contexts. A context travels with a reading from the
//! device's request to the batch and the alert.
//!
//! Leaves a record's headers to `kafka::record_trace` and the export of spans to `span_export`.

use std::sync::OnceLock;
use std::time::SystemTime;

use opentelemetry::trace::{
    Link, SpanBuilder, SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{
    Sampler, SamplingDecision, SamplingResult, SdkTracer, ShouldSample,
};

/// Header with the trace context of the span that sent a record.
pub const TRACEPARENT: &str = "traceparent";

/// Most links of one span. SDKs drop links beyond 128 without a message.
pub const LINKS_MAX: usize = 100;

/// Attribute that makes the sampler record a span.
const SAMPLING_PRIORITY: &str = "sampling.priority";

/// Samples every span with [`SAMPLING_PRIORITY`], and others as the inner sampler decides.
#[derive(Debug, Clone)]
pub(crate) struct PrioritySampler(pub Sampler);

impl ShouldSample for PrioritySampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let mut result = self.0.should_sample(parent, trace_id, name, kind, attributes, links);
        if attributes.iter().any(|attribute| attribute.key.as_str() == SAMPLING_PRIORITY) {
            result.decision = SamplingDecision::RecordAndSample;
        }
        result
    }
}

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Sets the tracer of this process.
pub(crate) fn install(tracer: SdkTracer) {
    if TRACER.set(tracer).is_err() {
        tracing::warn!("second tracer ignored");
    }
}

/// A span that is not started yet.
#[derive(Debug)]
pub struct NewSpan {
    builder: SpanBuilder,
    parent: Context,
}

impl NewSpan {
    /// Creates a span of `kind`. The span is a root unless [`Self::under`] or
    /// [`Self::under_remote`] sets a parent.
    pub fn new(name: impl Into<std::borrow::Cow<'static, str>>, kind: SpanKind) -> Self {
        Self { builder: SpanBuilder::from_name(name).with_kind(kind), parent: Context::new() }
    }

    /// Sets the parent to a context of this process.
    #[must_use]
    pub fn under(mut self, parent: &Context) -> Self {
        self.parent = parent.clone();
        self
    }

    /// Sets the parent to a context from another process.
    #[must_use]
    pub fn under_remote(mut self, parent: SpanContext) -> Self {
        self.parent = Context::new().with_remote_span_context(parent);
        self
    }

    /// Creates a span for sending a record to `topic`.
    pub fn send(topic: &str) -> Self {
        Self::new(format!("send {topic}"), SpanKind::Producer).with(vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", "send"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.destination.name", topic.to_owned()),
        ])
    }

    /// Adds attributes. The sampler sees only attributes added before the start.
    #[must_use]
    pub fn with(mut self, attributes: Vec<KeyValue>) -> Self {
        self.builder.attributes.get_or_insert_default().extend(attributes);
        self
    }

    /// Samples the span whatever the ratio is, because it is linked to a sampled span.
    #[must_use]
    pub fn recorded(self) -> Self {
        self.with(vec![KeyValue::new(SAMPLING_PRIORITY, 1)])
    }

    /// Sets links, at most [`LINKS_MAX`].
    #[must_use]
    pub fn linked(mut self, links: Vec<SpanContext>) -> Self {
        let links = links.into_iter().map(Link::with_context).collect();
        self.builder = self.builder.with_links(links);
        self
    }

    /// Sets the start time of the span to a time before now.
    #[must_use]
    pub fn since(mut self, start: SystemTime) -> Self {
        self.builder = self.builder.with_start_time(start);
        self
    }

    /// Starts the span. Without a collector the span records nothing.
    pub fn start(self) -> Context {
        match TRACER.get() {
            Some(tracer) => {
                let span = tracer.build_with_context(self.builder, &self.parent);
                self.parent.with_span(span)
            }
            None => self.parent,
        }
    }
}

/// Reads the trace context of a record or a request. Returns `None` if the context is missing or
/// broken. Ignores the vendors' `tracestate`.
pub fn read(traceparent: &[u8]) -> Option<SpanContext> {
    let text = std::str::from_utf8(traceparent).ok()?;
    let mut parts = text.trim().split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version.len() != 2 || trace.len() != 32 || span.len() != 16 || flags.len() != 2 {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

/// Returns the trace id of a sampled span, for log lines. The trace of any other span cannot be
/// found.
pub fn id(context: &Context) -> Option<String> {
    let span = context.span();
    let context = span.span_context();
    context.is_sampled().then(|| context.trace_id().to_string())
}

/// Returns the trace id in a stored `traceparent`, if the trace was sampled.
pub fn id_in(traceparent: &str) -> Option<&str> {
    let mut parts = traceparent.split('-').skip(1);
    let (id, _, flags) = (parts.next()?, parts.next()?, parts.next()?);
    (flags == "01").then_some(id)
}

/// Formats a context as `traceparent`. Returns `None` if the context is invalid.
pub fn traceparent(context: &SpanContext) -> Option<String> {
    context.is_valid().then(|| {
        format!(
            "00-{}-{}-{:02x}",
            context.trace_id(),
            context.span_id(),
            context.trace_flags() & TraceFlags::SAMPLED
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_survives_the_header() {
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = read(header.as_bytes()).unwrap();
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(traceparent(&context).unwrap(), header);
        assert_eq!(id_in(header), Some("0af7651916cd43dd8448eb211c80319c"));
        assert_eq!(id_in(&header.replace("-01", "-00")), None, "nobody would find it");
        for broken in
            ["", "00-0-0-01", "zz", "00-00000000000000000000000000000000-b7ad6b7169203331-01"]
        {
            assert_eq!(read(broken.as_bytes()), None, "{broken}");
        }
    }
}
