//! The span of a transition, under the span of the reading that caused it.
//!
//! Spans are exported by [`ljwx_service::telemetry`].

use std::time::SystemTime;

use ljwx_reading::Reading;
use ljwx_service::telemetry::trace::{self, NewSpan};
use opentelemetry::trace::{SpanContext, SpanKind, TraceContextExt};
use opentelemetry::{Context, KeyValue};

use crate::engine::Change;

/// What caused a change: a delivery, or that none came.
#[derive(Debug)]
pub struct Cause<'a> {
    /// What the delivery says; `None`: a device was silent.
    pub reading: Option<&'a Reading>,
    /// Where it stands, or the next one will.
    pub partition: i32,
    /// See `partition`.
    pub offset: i64,
    /// The topic.
    pub topic: &'a str,
    /// The context it carries.
    pub context: Option<SpanContext>,
    /// When its judgement began.
    pub since: SystemTime,
}

impl Cause<'_> {
    /// A span for what the reading led to, under the reading's own; returns its context.
    pub(super) fn span(&self, change: &Change) -> Option<String> {
        let mut span = NewSpan::new("alert_check", SpanKind::Consumer)
            .since(self.since)
            .with(vec![
                KeyValue::new("messaging.system", "kafka"),
                KeyValue::new("messaging.operation.name", "process"),
                KeyValue::new("messaging.operation.type", "process"),
                KeyValue::new("messaging.destination.name", self.topic.to_owned()),
                KeyValue::new("messaging.destination.partition.id", self.partition.to_string()),
                KeyValue::new("messaging.kafka.offset", self.offset),
                KeyValue::new("device.id", change.device_sn.as_str().to_owned()),
                KeyValue::new("rule.id", change.rule_id),
                KeyValue::new("alert.episode_key", change.key().as_str().to_owned()),
                KeyValue::new("alert.to", change.transition.to.as_str()),
                KeyValue::new("alert.severity", change.transition.severity.as_str()),
                KeyValue::new("alert.notify", change.transition.notify),
            ])
            // Somebody will ask for it.
            .recorded();
        if let Some(parent) = &self.context {
            span = span.under_remote(parent.clone());
        }
        let context: Context = span.start();
        let span = context.span();
        span.end();
        trace::traceparent(span.span_context())
    }
}
