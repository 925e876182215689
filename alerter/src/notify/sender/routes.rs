//! Finds the account that serves a tenant, and starts the span of a call.

use std::sync::Arc;

use ljwx_service::telemetry::trace::{self, NewSpan};
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;

use super::Sender;
use crate::notify::limits::AccountScope;
use crate::notify::outbox::Notification;
use crate::notify::wechat::Accounts;
use crate::rules::channel::Channel;

/// The account that serves a tenant on a channel.
#[derive(Debug, Clone)]
pub struct Route {
    /// The tenant's accounts.
    pub accounts: Arc<Accounts>,
    /// The channel.
    pub channel: Channel,
    /// The account's public name, for breakers, metrics and operators.
    pub name: String,
    /// A hash of the account's settings, which shows that the account was changed.
    pub settings: u64,
}

impl Route {
    /// Returns the route through the tenant's account on this channel, if the tenant has one.
    pub fn new(accounts: Arc<Accounts>, channel: Channel) -> Option<Self> {
        let (name, settings) = (accounts.name(channel)?, accounts.settings(channel));
        Some(Self { accounts, channel, name, settings })
    }
}

impl Sender {
    /// Finds the account that serves a tenant on a channel.
    pub(super) async fn route(
        &self,
        (customer_id, channel): AccountScope,
    ) -> Result<Option<Route>, Arc<sqlx::Error>> {
        let accounts = self.directory.accounts(customer_id).await?;
        Ok(Route::new(accounts, channel))
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
