//! The sender's view of the platforms: the account that serves a tenant, the form of a request, one
//! call, and the span of the call.
//!
//! Only this module of the sender names a platform. It decides and retries nothing.

use std::sync::Arc;

use ljwx_service::telemetry::trace::{self, NewSpan};
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;

use crate::notify::address::Address;
use crate::notify::notice::Notice;
use crate::notify::outbox::Notification;
use crate::notify::recipients::Directory;
use crate::notify::wechat::error::Failure;
use crate::notify::wechat::{self, Account, AccountKind, Accounts, FieldMap, Platforms};
use crate::rules::channel::Channel;

/// The routes to the platforms: the tenants' accounts on them.
#[derive(Clone)]
pub struct SenderRoutes {
    /// The tenants' accounts.
    pub directory: Arc<Directory>,
    /// The platforms.
    pub platforms: Platforms,
}

/// The account that serves a tenant on a channel.
#[derive(Debug, Clone)]
pub struct Route {
    account: Arc<Account>,
    name: String,
}

impl Route {
    /// Returns the route through the tenant's account on this channel, if the tenant has one.
    pub fn new(accounts: &Accounts, channel: Channel) -> Option<Self> {
        let account = Arc::clone(accounts.of(channel)?);
        Some(Self { name: account.name(), account })
    }

    /// The account's public name, for breakers, metrics and operators.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns a hash of the account's settings, which shows that the account was changed.
    pub fn settings(&self) -> u64 {
        self.account.settings()
    }

    /// Whether an address is the account's default address.
    pub fn is_default(&self, address: &Address) -> bool {
        self.account.default_address().as_ref() == Some(address)
    }

    /// Renders the request that sends `notice` to `address`.
    pub fn render(&self, address: &Address, id: &str, notice: &Notice) -> Vec<u8> {
        wechat::request(&self.account, &address.name, id, notice)
    }

    /// The fields of the account's template, if the account has a template.
    pub fn template(&self) -> Option<&FieldMap> {
        match &self.account.kind {
            AccountKind::Official { fields, .. } => Some(fields),
            AccountKind::Wecom { .. } => None,
        }
    }
}

impl SenderRoutes {
    /// Finds the account that serves the tenant on this channel.
    pub async fn find(
        &self,
        customer_id: i64,
        channel: Channel,
    ) -> Result<Option<Route>, Arc<sqlx::Error>> {
        let accounts = self.directory.accounts(customer_id).await?;
        Ok(Route::new(&accounts, channel))
    }

    /// Sends stored bytes once.
    pub async fn send(&self, route: &Route, payload: &[u8]) -> Result<(), Failure> {
        self.platforms.send(&route.account, payload).await
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
