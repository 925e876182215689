//! The accounts that notify a tenant's recipients.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::template::FieldMap;
use crate::notify::address::Address;
use crate::rules::Channel;

/// An account of one tenant.
#[derive(Debug, Clone)]
pub struct Account {
    /// The account's name, unique among the accounts of every kind and tenant.
    pub name: String,
    /// The public name of the official account, or of the application's company.
    pub app_id: String,
    /// The secret of the official account, or of the application.
    pub secret: SecretString,
    /// What sends.
    pub kind: AccountKind,
    /// The address that is notified if no recipient of the device is known.
    pub default_address: Option<String>,
}

/// The kind of an account, and what its messages depend on.
#[derive(Debug, Clone, PartialEq, Hash)]
pub enum AccountKind {
    /// An official account.
    Official {
        /// The template of the account's messages.
        template_id: String,
        /// The template's fields and their contents.
        fields: FieldMap,
    },
    /// An application of a company in WeCom.
    Wecom {
        /// The application's number within the company.
        agent_id: i64,
        /// Whether messages are markdown, which members who read through WeChat do not see.
        /// Otherwise they are text, which every member sees.
        is_markdown: bool,
    },
}

impl Account {
    /// The account with these settings.
    pub fn new(
        app_id: String,
        secret: SecretString,
        kind: AccountKind,
        default_address: Option<String>,
    ) -> Self {
        let name = match kind {
            AccountKind::Official { .. } => format!("official:{app_id}"),
            AccountKind::Wecom { agent_id, .. } => format!("wecom:{app_id}:{agent_id}"),
        };
        Self { name, app_id, secret, kind, default_address }
    }

    /// The channel that the account serves.
    pub fn channel(&self) -> Channel {
        match self.kind {
            AccountKind::Official { .. } => Channel::Official,
            AccountKind::Wecom { .. } => Channel::Wecom,
        }
    }

    /// The fields of the account's template, if the account has a template.
    pub fn template(&self) -> Option<&FieldMap> {
        match &self.kind {
            AccountKind::Official { fields, .. } => Some(fields),
            AccountKind::Wecom { .. } => None,
        }
    }

    /// Returns a hash of the account's settings, which shows that the account was changed. It is kept
    /// in memory only: it depends on the secret.
    pub fn settings(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.app_id, self.secret.expose_secret(), &self.kind).hash(&mut hasher);
        hasher.finish()
    }

    /// Returns the address for alerts without a known recipient.
    pub fn default_address(&self) -> Option<Address> {
        let name = self.default_address.clone()?;
        Some(Address { channel: self.channel(), name })
    }
}

/// A tenant's accounts: for each kind of which the tenant has a row, the account that can be used,
/// if there is one.
#[derive(Debug, Clone, Default)]
pub struct Accounts(BTreeMap<Channel, Option<Arc<Account>>>);

impl Accounts {
    /// Notes that there is a row of an account for the channel. Returns the place of the account.
    pub fn row(&mut self, channel: Channel) -> &mut Option<Arc<Account>> {
        self.0.entry(channel).or_default()
    }

    /// Whether the tenant has no row.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a row of an account for the channel, whatever its state.
    pub fn has_row(&self, channel: Channel) -> bool {
        self.0.contains_key(&channel)
    }

    /// Returns the account for the channel.
    pub fn of(&self, channel: Channel) -> Option<&Arc<Account>> {
        self.0.get(&channel)?.as_ref()
    }

    /// Returns the accounts that can be used.
    pub fn usable(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.0.values().flatten()
    }
}

impl FromIterator<Account> for Accounts {
    fn from_iter<T: IntoIterator<Item = Account>>(accounts: T) -> Self {
        let rows = accounts.into_iter().map(|one| (one.channel(), Some(Arc::new(one))));
        Self(rows.collect())
    }
}
