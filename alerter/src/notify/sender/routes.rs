//! The sender's view of the platforms: the account that serves a tenant, and the span of a call.
//!
//! Decides and retries nothing.

use std::sync::Arc;

use ljwx_service::telemetry::trace::{self, NewSpan};
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;

use crate::notify::outbox::Notification;
use crate::notify::recipients::Directory;
use crate::notify::wechat::{Account, Platforms};
use crate::rules::channel::Channel;

/// The routes to the platforms: the tenants' accounts on them.
#[derive(Clone)]
pub struct SenderRoutes {
    /// The tenants' accounts.
    pub directory: Arc<Directory>,
    /// The platforms.
    pub platforms: Platforms,
}

impl SenderRoutes {
    /// Finds the account that serves the tenant on this channel.
    pub async fn find(
        &self,
        customer_id: i64,
        channel: Channel,
    ) -> Result<Option<Arc<Account>>, Arc<sqlx::Error>> {
        Ok(self.directory.accounts(customer_id).await?.of(channel).cloned())
    }
}

/// Starts a span under the reading's span that the notification continues. The span holds neither
/// address nor text.
pub fn start_span(notification: &Notification, channel: Channel) -> opentelemetry::Context {
    let mut span = NewSpan::new("notify", SpanKind::Client).with(vec![
        KeyValue::new("notification.channel", channel.as_str()),
        KeyValue::new("alert.episode_key", notification.episode_key.clone()),
        KeyValue::new("alert.transition", notification.transition.clone()),
        KeyValue::new("notification.attempt", i64::from(notification.attempts) + 1),
    ]);
    let parent = notification.traceparent.as_deref();
    if let Some(parent) = parent.and_then(|header| trace::read(header.as_bytes())) {
        span = span.under_remote(parent);
    }
    span.start()
}
