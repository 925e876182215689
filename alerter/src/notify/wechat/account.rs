//! The accounts that notify a tenant's recipients.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::api::{ApiCall, json};
use super::error::ApiOperation;
use super::template::FieldMap;
use super::token::TokenHolder;
use crate::notify::address::Address;
use crate::rules::channel::Channel;

/// An official account of one tenant.
#[derive(Debug, Clone)]
pub struct OfficialAccount {
    /// The account's public name.
    pub app_id: String,
    /// The account's secret.
    pub app_secret: SecretString,
    /// The template of the account's messages.
    pub template_id: String,
    /// The template's fields and their contents.
    pub fields: FieldMap,
    /// The openid that is notified if no recipient of the device is known.
    pub default_address: Option<String>,
}

/// An application of one tenant's company in WeCom.
#[derive(Debug, Clone)]
pub struct WecomAccount {
    /// The company's public name.
    pub corp_id: String,
    /// The application's number within the company.
    pub agent_id: i64,
    /// The application's secret.
    pub secret: SecretString,
    /// The form of the application's messages.
    pub form: WecomForm,
    /// The user id that is notified if no recipient of the device is known.
    pub default_address: Option<String>,
}

/// The form of a message in WeCom.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum WecomForm {
    /// Text, which every member sees.
    #[default]
    Text,
    /// Markdown, which members who read through WeChat do not see.
    Markdown,
}

/// A tenant's accounts of each kind.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    /// The tenant's official account.
    pub official: Option<Arc<OfficialAccount>>,
    /// The tenant's application in WeCom.
    pub wecom: Option<Arc<WecomAccount>>,
}

impl Accounts {
    /// Returns the name of a channel's account, unique among all tenants. `None` if the tenant has
    /// no account for the channel, or the channel needs none.
    pub fn name(&self, channel: Channel) -> Option<String> {
        match channel {
            Channel::Official => Some(self.official.as_ref()?.name()),
            Channel::Wecom => Some(self.wecom.as_ref()?.name()),
            Channel::Message => None,
        }
    }

    /// Returns the channels of the accounts.
    pub fn kinds(&self) -> BTreeSet<Channel> {
        let kinds = [Channel::Official, Channel::Wecom].into_iter();
        kinds.filter(|channel| self.name(*channel).is_some()).collect()
    }

    /// Returns a hash of the settings of a channel's account. It is kept in memory only: it depends
    /// on the secret.
    pub fn settings(&self, channel: Channel) -> u64 {
        let mut hasher = DefaultHasher::new();
        match (channel, &self.official, &self.wecom) {
            (Channel::Official, Some(account), _) => {
                let secret = account.app_secret.expose_secret();
                let template = (&account.template_id, &account.fields);
                (&account.app_id, secret, template).hash(&mut hasher);
            }
            (Channel::Wecom, _, Some(account)) => {
                let secret = account.secret.expose_secret();
                (&account.corp_id, account.agent_id, secret, account.form).hash(&mut hasher);
            }
            _ => {}
        }
        hasher.finish()
    }

    /// Returns the channel's default address, for alerts without a known recipient.
    pub fn default_address(&self, channel: Channel) -> Option<Address> {
        let name = match channel {
            Channel::Official => self.official.as_ref()?.default_address.clone()?,
            Channel::Wecom => self.wecom.as_ref()?.default_address.clone()?,
            Channel::Message => return None,
        };
        Some(Address { channel, name })
    }
}

#[derive(Serialize)]
struct StableToken<'a> {
    grant_type: &'static str,
    appid: &'a str,
    secret: &'a str,
}

impl TokenHolder for OfficialAccount {
    fn name(&self) -> String {
        format!("official:{}", self.app_id)
    }

    fn token_call(&self) -> ApiCall {
        let body = StableToken {
            grant_type: "client_credential",
            appid: &self.app_id,
            secret: self.app_secret.expose_secret(),
        };
        ApiCall {
            step: ApiOperation::Token,
            path: "/cgi-bin/stable_token",
            query: Vec::new(),
            body: Some(json(&body)),
        }
    }
}

impl TokenHolder for WecomAccount {
    fn name(&self) -> String {
        format!("wecom:{}:{}", self.corp_id, self.agent_id)
    }

    fn token_call(&self) -> ApiCall {
        ApiCall {
            step: ApiOperation::Token,
            path: "/cgi-bin/gettoken",
            query: vec![
                ("corpid", self.corp_id.clone()),
                ("corpsecret", self.secret.expose_secret().to_owned()),
            ],
            body: None,
        }
    }
}
