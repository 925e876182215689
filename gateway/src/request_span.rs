//! Starts and ends the span of one request.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use ipnet::IpNet;
use ljwx_service::telemetry::trace::{self, NewSpan, TRACEPARENT};
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, KeyValue};

use crate::admission::shared_bucket::SharedBucket;

/// Header with the request's id in answers, and the client's own id in requests.
pub const REQUEST_ID: &str = "x-request-id";

/// Most requests a second that all trusted callers together can have sampled.
const SAMPLED_PER_SECOND: u64 = 10;

/// Most spans a second that are recorded for rejects and failed requests: a flood of them must not
/// fill the collector.
pub const FORCED_PER_SECOND: u64 = 10;

/// Longest client id that is kept.
const CLIENT_ID_BYTES_MAX: usize = 64;

/// The trusted callers, whose trace headers count. None by default.
#[derive(Debug, Clone)]
pub struct TraceCallers {
    networks: Arc<[IpNet]>,
    sampled: SharedBucket,
}

impl TraceCallers {
    /// Trusts callers from these networks.
    pub fn new(networks: &[IpNet]) -> Self {
        let sampled = SharedBucket::new(SAMPLED_PER_SECOND, SAMPLED_PER_SECOND);
        Self { networks: networks.into(), sampled }
    }

    /// Returns the trace context of a request from `peer`, if `peer` is trusted.
    pub fn context(&self, peer: IpAddr, headers: &HeaderMap) -> Option<SpanContext> {
        let peer = peer.to_canonical();
        if !self.networks.iter().any(|network| network.contains(&peer)) {
            return None;
        }
        let context = trace::read(headers.get(TRACEPARENT)?.as_bytes())?;
        if !context.is_sampled() || self.sampled.take(1).is_ok() {
            return Some(context);
        }
        Some(remote(context.trace_id(), context.span_id()))
    }
}

/// Creates a context that is not sampled.
fn remote(trace: TraceId, span: SpanId) -> SpanContext {
    SpanContext::new(trace, span, TraceFlags::default(), true, TraceState::default())
}

/// Creates an id for a request without a span.
pub fn new_id() -> String {
    TraceId::from(rand::random::<u128>()).to_string()
}

/// The span of a request. If the request fails or has a reject, a sampled span is added, within the
/// bound of such spans.
pub struct RequestSpan {
    route: &'static str,
    started: SystemTime,
    context: Context,
    /// The client's own id of the request.
    client_id: Option<String>,
    /// Sampled spans that may be added.
    forced: SharedBucket,
    /// A sampled span in the same trace, if the sampler had not chosen the request.
    recorded: OnceLock<Context>,
}

impl RequestSpan {
    /// Starts the span, with `caller` as its parent if there is one.
    /// Sampled spans are added as long as `forced` has tokens.
    pub fn start(
        route: &'static str,
        caller: Option<SpanContext>,
        headers: &HeaderMap,
        forced: &SharedBucket,
    ) -> Self {
        let client_id = headers.get(REQUEST_ID).and_then(client_id);
        let span = named(route, client_id.as_deref());
        let context = match caller {
            Some(caller) => span.under_remote(caller).start(),
            None => span.start(),
        };
        // Without a collector there is no tracer, but the request and its records need an id.
        let context = if context.span().span_context().is_valid() {
            context
        } else {
            let (trace, span) = (rand::random::<u128>(), rand::random::<u64>());
            context.with_remote_span_context(remote(TraceId::from(trace), SpanId::from(span)))
        };
        Self {
            route,
            started: SystemTime::now(),
            context,
            client_id,
            forced: forced.clone(),
            recorded: OnceLock::new(),
        }
    }

    /// Returns the id of the request in logs and traces.
    pub fn request_id(&self) -> String {
        self.context.span().span_context().trace_id().to_string()
    }

    /// Returns the client's own id of the request.
    pub fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    /// Returns the context for the request's records.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Returns a context for rejects and failed requests. The context is sampled as long as the bound
    /// of such spans allows.
    pub fn recorded(&self) -> &Context {
        if self.is_sampled() {
            return &self.context;
        }
        let start = || {
            if self.forced.take(1).is_err() {
                return self.context.clone();
            }
            named(self.route, self.client_id())
                .under(&self.context)
                .since(self.started)
                .recorded()
                .start()
        };
        self.recorded.get_or_init(start)
    }

    /// Ends the span with the answer's status. A request that was not acknowledged is sampled.
    pub fn end(&self, status: StatusCode) {
        let context = if status.is_server_error() {
            self.recorded()
        } else {
            self.recorded.get().unwrap_or(&self.context)
        };
        let span = context.span();
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
        if status.is_server_error() {
            span.set_attribute(KeyValue::new("error.type", status.as_str().to_owned()));
            span.set_status(Status::error("not acknowledged"));
        }
        span.end();
    }

    fn is_sampled(&self) -> bool {
        self.context.span().span_context().is_sampled()
    }
}

fn named(route: &'static str, client_id: Option<&str>) -> NewSpan {
    let mut attributes =
        vec![KeyValue::new("http.request.method", "POST"), KeyValue::new("http.route", route)];
    if let Some(id) = client_id {
        attributes.push(KeyValue::new("http.request.header.x-request-id", id.to_owned()));
    }
    NewSpan::new(format!("POST {route}"), SpanKind::Server).with(attributes)
}

/// Returns a client's id if it is short and plain enough for a log.
fn client_id(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let short = (1..=CLIENT_ID_BYTES_MAX).contains(&text.len());
    (short && text.bytes().all(plain)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers() -> HeaderMap {
        HeaderMap::from_iter([(TRACEPARENT.parse().unwrap(), HeaderValue::from_static(SAMPLED))])
    }

    #[test]
    fn only_a_named_caller_s_trace_is_gone_on_with_and_seldom_sampled() {
        let callers = TraceCallers::new(&["10.0.0.0/8".parse().unwrap()]);
        let context = |peer: &str| callers.context(peer.parse().unwrap(), &headers());
        assert_eq!(context("192.0.2.1"), None);
        assert_eq!(TraceCallers::new(&[]).context([10, 0, 0, 1].into(), &headers()), None);
        let contexts: Vec<_> = (0..50).map(|_| context("::ffff:10.1.2.3").unwrap()).collect();
        let id = TraceId::from_hex("0af7651916cd43dd8448eb211c80319c").unwrap();
        assert!(contexts.iter().all(|context| context.trace_id() == id));
        let sampled = contexts.iter().filter(|context| context.is_sampled()).count();
        // Some come back meanwhile.
        assert!((10..=20).contains(&sampled), "{sampled} of 50");
    }

    #[test]
    fn a_client_s_own_id_is_noted_only_where_it_is_plain() {
        for (text, plain) in [("client-7", true), ("a.B_9", true), ("", false), ("a b", false)] {
            assert_eq!(client_id(&HeaderValue::from_static(text)).is_some(), plain, "{text}");
        }
        assert_eq!(client_id(&HeaderValue::from_str(&"x".repeat(65)).unwrap()), None);
    }
}
