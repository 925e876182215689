//! The platforms as the sender sees them: which account serves a tenant, what a request looks like,
//! and one call.
//!
//! The only place of the sender that names a platform. Nothing is decided or tried again here.

use std::sync::Arc;

use crate::channel::{Address, Channel};
use crate::message::Notice;
use crate::recipients::Directory;
use crate::wechat::official::{self, Official};
use crate::wechat::{Account, Failure};

/// The ways to the platforms: the tenants' accounts on them.
#[derive(Clone)]
pub struct Routes {
    /// Whose accounts there are.
    pub directory: Arc<Directory>,
    /// The official accounts' platform.
    pub official: Official,
}

/// The account that serves a tenant on a channel.
#[derive(Debug, Clone)]
pub struct Route {
    account: Arc<Account>,
}

impl Route {
    /// The way through this account.
    pub fn new(account: Arc<Account>) -> Self {
        Self { account }
    }

    /// The account's public name, for breakers, metrics and operators.
    pub fn name(&self) -> &str {
        &self.account.app_id
    }

    /// The request that tells `address` of `notice`; none: the account does not serve it.
    pub fn render(&self, address: &Address, id: &str, notice: &Notice) -> Option<Vec<u8>> {
        let official = address.channel == Channel::Official;
        official.then(|| official::request(&self.account, &address.name, id, notice))
    }
}

impl Routes {
    /// The account that serves the tenant on this channel, if any.
    pub async fn find(
        &self,
        customer_id: i64,
        channel: Channel,
    ) -> Result<Option<Route>, Arc<sqlx::Error>> {
        if channel != Channel::Official {
            return Ok(None);
        }
        Ok(self.directory.account(customer_id).await?.map(Route::new))
    }

    /// Sends stored bytes once.
    pub async fn send(&self, route: &Route, payload: &[u8]) -> Result<(), Failure> {
        self.official.send(&route.account, payload).await
    }

    /// Notes that an address cannot be reached any more.
    pub async fn refuse(
        &self,
        customer_id: i64,
        address: &Address,
        errcode: Option<i64>,
    ) -> Result<(), sqlx::Error> {
        self.directory.refuse(customer_id, &address.name, errcode).await
    }
}

/// Whether the person may have been told all the same: the platform was asked and its answer did not
/// come.
pub fn is_uncertain(failure: &Failure) -> bool {
    failure.errcode.is_none()
}
