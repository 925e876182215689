//! WeChat's two platforms: official accounts, which send template messages to whoever follows them,
//! and WeCom, in which an application writes to the members of its company.
//!
//! Makes requests and sends them. One call is one attempt here; when to try again belongs to
//! [`crate::notify::sender`], who is told to [`crate::notify::recipients`].

pub mod account;
pub mod api;
pub mod client;
pub mod error;
pub mod escape;
pub mod official;
pub mod settings;
pub mod token;
pub mod wecom;

#[cfg(test)]
mod test_support;

use crate::notify::address::Address;
use crate::notify::notice::Notice;
use crate::rules::channel::Channel;

pub use account::{Accounts, OfficialAccount, WecomAccount};
use api::{CALL_TIMEOUT, Platform};
use client::Client;
use error::{Failure, Kind, Remedy};
use official::Official;
pub use settings::WechatArgs;
use wecom::Wecom;

/// The request that tells `address` of `notice`, byte for byte.
///
/// `None` where the tenant has no account of that kind, or the channel is no platform's. `id` names the
/// notification for platforms that take such a name.
pub fn request(
    accounts: &Accounts,
    address: &Address,
    id: &str,
    notice: &Notice,
) -> Option<Vec<u8>> {
    match address.channel {
        Channel::Official => {
            let account = accounts.official.as_deref()?;
            Some(official::request(account, &address.name, id, notice))
        }
        Channel::Wecom => Some(wecom::request(accounts.wecom.as_deref()?, &address.name, notice)),
        Channel::Message => None,
    }
}

/// Both platforms.
#[derive(Clone)]
pub struct Platforms {
    /// Official accounts.
    pub official: Official,
    /// WeCom.
    pub wecom: Wecom,
}

impl Platforms {
    /// The platforms at the settings' addresses; tokens are shared through `redis` where there is one.
    pub fn new(
        settings: &WechatArgs,
        redis: Option<fred::clients::Client>,
    ) -> Result<Self, reqwest::Error> {
        let client = |kind, base: &reqwest::Url| {
            let platform = Platform::new(kind, base.clone(), CALL_TIMEOUT)?;
            Ok::<_, reqwest::Error>(Client::new(platform, redis.clone()))
        };
        Ok(Self {
            official: Official::new(client(Kind::Official, &settings.wechat_api_url)?),
            wecom: Wecom::new(client(Kind::Wecom, &settings.wecom_api_url)?),
        })
    }

    /// Sends stored bytes once by a channel's platform, with one more attempt where the account's
    /// token turns out to be old.
    pub async fn send(
        &self,
        accounts: &Accounts,
        channel: Channel,
        request: &[u8],
    ) -> Result<(), Failure> {
        match (channel, &accounts.official, &accounts.wecom) {
            (Channel::Official, Some(account), _) => self.official.send(account, request).await,
            (Channel::Wecom, _, Some(account)) => self.wecom.send(account, request).await,
            _ => Err(Failure {
                remedy: Remedy::ConfigError,
                errcode: None,
                uncertain: false,
                message: format!("the tenant has no account for {}", channel.as_str()),
            }),
        }
    }
}
