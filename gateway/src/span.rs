//! The span of one request.

use std::sync::OnceLock;
use std::time::SystemTime;

use axum::http::{HeaderMap, StatusCode};
use common::trace::{self, NewSpan, TRACEPARENT, TRACESTATE};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};

/// The server's span, which becomes a recorded one once there is something wrong with the request.
pub struct RequestSpan {
    route: &'static str,
    started: SystemTime,
    context: Context,
    /// In the same trace, where the sampler had not chosen it.
    recorded: OnceLock<Context>,
}

impl RequestSpan {
    /// Starts the span, under the caller's where the request names one.
    pub fn start(route: &'static str, headers: &HeaderMap) -> Self {
        let caller = headers.get(TRACEPARENT).and_then(|traceparent| {
            let tracestate = headers.get(TRACESTATE).map(|state| state.as_bytes());
            trace::read(traceparent.as_bytes(), tracestate)
        });
        let span = named(route);
        let context = match caller {
            Some(caller) => span.under_remote(caller).start(),
            None => span.start(),
        };
        Self { route, started: SystemTime::now(), context, recorded: OnceLock::new() }
    }

    /// What the request's records belong to.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The same for records that somebody will ask about: recorded whatever the ratio says.
    pub fn recorded(&self) -> &Context {
        if self.is_sampled() {
            return &self.context;
        }
        let start =
            || named(self.route).under(&self.context).since(self.started).recorded().start();
        self.recorded.get_or_init(start)
    }

    /// Ends the span with the answer's status; a request that was not acknowledged is recorded.
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

fn named(route: &'static str) -> NewSpan {
    NewSpan::new(format!("POST {route}"), SpanKind::Server).with(vec![
        KeyValue::new("http.request.method", "POST"),
        KeyValue::new("http.route", route),
    ])
}
