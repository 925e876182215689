//! The platforms as the sender sees them: which account serves a tenant, what a request looks like,
//! and one call.
//!
//! The only place of the sender that names a platform. Nothing is decided or tried again here.

use std::sync::Arc;

use crate::notify::address::Address;
use crate::notify::notice::Notice;
use crate::notify::recipients::Directory;
use crate::notify::wechat::{self, Accounts, Failure, Platforms};
use crate::rules::channel::Channel;

/// The ways to the platforms: the tenants' accounts on them.
#[derive(Clone)]
pub struct Routes {
    /// Whose accounts there are.
    pub directory: Arc<Directory>,
    /// The platforms.
    pub platforms: Platforms,
}

/// The account that serves a tenant on a channel.
#[derive(Debug, Clone)]
pub struct Route {
    accounts: Arc<Accounts>,
    channel: Channel,
    name: String,
}

impl Route {
    /// The way through the account that a tenant has for this channel, if it has one.
    pub fn new(accounts: Arc<Accounts>, channel: Channel) -> Option<Self> {
        let name = accounts.name(channel)?;
        Some(Self { accounts, channel, name })
    }

    /// The account's public name, for breakers, metrics and operators.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The request that tells `address` of `notice`; none: the account does not serve it.
    pub fn render(&self, address: &Address, id: &str, notice: &Notice) -> Option<Vec<u8>> {
        wechat::request(&self.accounts, address, id, notice)
    }
}

impl Routes {
    /// The account that serves the tenant on this channel, if any.
    pub async fn find(
        &self,
        customer_id: i64,
        channel: Channel,
    ) -> Result<Option<Route>, Arc<sqlx::Error>> {
        let accounts = self.directory.accounts(customer_id).await?;
        Ok(Route::new(accounts, channel))
    }

    /// Sends stored bytes once.
    pub async fn send(&self, route: &Route, payload: &[u8]) -> Result<(), Failure> {
        self.platforms.send(&route.accounts, route.channel, payload).await
    }

    /// Notes that an address cannot be reached any more.
    pub async fn refuse(
        &self,
        customer_id: i64,
        address: &Address,
        errcode: Option<i64>,
    ) -> Result<(), sqlx::Error> {
        self.directory.refuse(customer_id, address, errcode).await
    }
}
