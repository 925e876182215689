//! The span of one send.

use ljwx_service::telemetry::trace::{self, NewSpan};
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;

use crate::notify::outbox::Notification;
use crate::rules::channel::Channel;

/// A span under what the notification tells of; it holds neither address nor text.
pub fn start(notification: &Notification, channel: Channel) -> opentelemetry::Context {
    let mut span = NewSpan::new("notify", SpanKind::Client).with(vec![
        KeyValue::new("notification.channel", channel.as_str()),
        KeyValue::new("alert.episode_key", notification.episode_key.clone()),
        KeyValue::new("alert.to", notification.transition.clone()),
        KeyValue::new("notification.attempt", i64::from(notification.attempts) + 1),
    ]);
    let parent = notification.traceparent.as_deref();
    if let Some(parent) = parent.and_then(|header| trace::read(header.as_bytes())) {
        span = span.under_remote(parent);
    }
    span.start()
}
