//! WeChat's two platforms. Official accounts send template messages to their followers. A WeCom
//! application writes to the members of its company.
//!
//! Renders requests and sends them. One call is one attempt. [`crate::notify::sender`] decides when
//! to retry, and [`crate::notify::recipients`] who is notified.

pub mod account;
pub mod api;
pub mod client;
pub mod error;
pub mod escape;
pub mod official;
pub mod settings;
pub mod template;
pub mod token;
pub mod wecom;

#[cfg(test)]
mod test_support;

use crate::notify::address::Address;
use crate::notify::notice::Notice;
use crate::rules::channel::Channel;

pub use account::{Accounts, OfficialAccount, WecomAccount, WecomForm};
use api::{CALL_TIMEOUT, Platform};
use client::PlatformSender;
use error::{ErrcodeRemedy, Failure, PlatformKind};
use official::Official;
pub use settings::WechatArgs;
pub use template::FieldMap;
use wecom::Wecom;

/// Renders the request that sends `notice` to `address`, byte for byte.
///
/// `None` if the tenant has no account of that kind, or no platform serves the channel. `id` names
/// the notification on platforms that accept a name.
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
    /// The platforms at the settings' addresses. Tokens are shared through `redis` if there is one.
    pub fn new(
        settings: &WechatArgs,
        redis: Option<fred::clients::Client>,
    ) -> Result<Self, reqwest::Error> {
        let client = |kind, base: &reqwest::Url| {
            let platform = Platform::new(kind, base.clone(), CALL_TIMEOUT)?;
            Ok::<_, reqwest::Error>(PlatformSender::new(platform, redis.clone()))
        };
        Ok(Self {
            official: Official::new(client(PlatformKind::Official, &settings.wechat_api_url)?),
            wecom: Wecom::new(client(PlatformKind::Wecom, &settings.wecom_api_url)?),
        })
    }

    /// Sends stored bytes once on a channel's platform, and once more if the account's token has
    /// expired.
    pub async fn send(
        &self,
        accounts: &Accounts,
        channel: Channel,
        request: &[u8],
    ) -> Result<(), Failure> {
        match (channel, &accounts.official, &accounts.wecom) {
            (Channel::Official, Some(account), _) => self.official.send(account, request).await,
            (Channel::Wecom, _, Some(account)) => self.wecom.send(account, request).await,
            _ => Err(no_account(channel)),
        }
    }

    /// Checks a channel's account without a message: the token, and the template or the
    /// application. Returns what is wrong, in words.
    pub async fn check(
        &self,
        accounts: &Accounts,
        channel: Channel,
    ) -> Result<Vec<String>, Failure> {
        match (channel, &accounts.official, &accounts.wecom) {
            (Channel::Official, Some(account), _) => self.official.check(account).await,
            (Channel::Wecom, _, Some(account)) => self.wecom.check(account).await,
            _ => Err(no_account(channel)),
        }
    }
}

fn no_account(channel: Channel) -> Failure {
    Failure {
        remedy: ErrcodeRemedy::ConfigError,
        errcode: None,
        uncertain: false,
        message: format!("the tenant has no account for {}", channel.as_str()),
    }
}
