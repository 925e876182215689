//! Starts the span of a transition, under the span of the reading that caused it.
//!
//! [`ljwx_service::telemetry`] exports spans.

use std::time::SystemTime;

use ljwx_reading::Reading;
use ljwx_service::telemetry::trace::{self, NewSpan};
use opentelemetry::trace::{SpanContext, SpanKind, TraceContextExt};
use opentelemetry::{Context, KeyValue};

use crate::engine::Change;

/// The cause of a change: a delivery, or a missing one.
#[derive(Debug)]
pub struct Cause<'a> {
    /// The delivery's reading. `None`: the device was silent.
    pub reading: Option<&'a Reading>,
    /// The partition of the delivery, or of the next one.
    pub partition: i32,
    /// The offset of the delivery, or of the next one.
    pub offset: i64,
    /// The topic of the delivery.
    pub topic: &'a str,
    /// The trace context of the delivery.
    pub context: Option<SpanContext>,
    /// The time at which its evaluation began.
    pub since: SystemTime,
}

impl Cause<'_> {
    /// Adds a span for the change under the reading's own span. Returns its context.
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
                KeyValue::new("alert.transition", change.transition.to.as_str()),
                KeyValue::new("alert.severity", change.transition.severity.as_str()),
                KeyValue::new("alert.notified", change.transition.notify),
            ])
            // Always sampled: an alert is worth a trace.
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
