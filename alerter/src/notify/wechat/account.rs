//! The accounts through which a tenant's people are told.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::api::{Call, json};
use super::error::Step;
use super::token::TokenHolder;
use crate::notify::address::Address;
use crate::rules::channel::Channel;

/// An official account of one tenant.
#[derive(Debug, Clone)]
pub struct OfficialAccount {
    /// The account's public name.
    pub app_id: String,
    /// What proves that it is ours.
    pub app_secret: SecretString,
    /// The template its messages have.
    pub template_id: String,
    /// Openid of whoever is told where no recipient of the device is known.
    pub default_address: Option<String>,
}

/// An application of one tenant's company in WeCom.
#[derive(Debug, Clone)]
pub struct WecomAccount {
    /// The company's public name.
    pub corp_id: String,
    /// The application's number within the company.
    pub agent_id: i64,
    /// What proves that the application is ours.
    pub secret: SecretString,
    /// User id of whoever is told where no recipient of the device is known.
    pub default_address: Option<String>,
}

/// What a tenant has of each kind.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    /// Its official account.
    pub official: Option<Arc<OfficialAccount>>,
    /// Its application in WeCom.
    pub wecom: Option<Arc<WecomAccount>>,
}

impl Accounts {
    /// Names the account of a channel among all accounts of all tenants; `None` where the tenant has
    /// none, or the channel needs none.
    pub fn name(&self, channel: Channel) -> Option<String> {
        match channel {
            Channel::Official => Some(self.official.as_ref()?.name()),
            Channel::Wecom => Some(self.wecom.as_ref()?.name()),
            Channel::Message => None,
        }
    }

    /// Who is told by a channel where nobody else is known.
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

    fn token_call(&self) -> Call {
        let body = StableToken {
            grant_type: "client_credential",
            appid: &self.app_id,
            secret: self.app_secret.expose_secret(),
        };
        Call {
            step: Step::Token,
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

    fn token_call(&self) -> Call {
        Call {
            step: Step::Token,
            path: "/cgi-bin/gettoken",
            query: vec![
                ("corpid", self.corp_id.clone()),
                ("corpsecret", self.secret.expose_secret().to_owned()),
            ],
            body: None,
        }
    }
}
