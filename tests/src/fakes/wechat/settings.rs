//! The accounts and settings that a test may change. By default the fake knows every account and
//! limits nothing. Counting towards the limits belongs to [`super::platform`].

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::limits::Limit;
use super::template::OLD_FIELDS;

/// Secret of every official account, unless [`Settings::accounts`] lists the accounts.
pub const APP_SECRET: &str = "secret-of-the-stand-in";

/// Secret of every WeCom application, unless [`Settings::accounts`] lists the accounts.
pub const CORP_SECRET: &str = "corp-secret-of-the-stand-in";

/// Template of every account here.
pub const TEMPLATE_ID: &str = "template-alarm";

/// The person who receives the alerts.
pub const NURSE: &str = "openid-nurse";

/// The life of the real platforms' tokens.
const TOKEN_LIFE: Duration = Duration::from_secs(7_200);

/// The settings that a test may change, see [`super::FakeWechat::set`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// The only accounts that exist. `None`: every id with the prefix of its kind, and
    /// [`APP_SECRET`] or [`CORP_SECRET`].
    pub accounts: Option<Vec<Account>>,
    /// Life of a new token.
    pub token_life: Duration,
    /// Time for which a token still works after the old token API or a forced refresh has replaced
    /// it.
    pub token_overlap: Duration,
    /// Token requests of one account. Beyond the limit: 45011 within a minute, 45009 within a day.
    pub token_minute: Option<Limit>,
    /// See [`Self::token_minute`].
    pub token_day: Option<Limit>,

    /// Templates of every official account, with the names of their fields. A name without its
    /// number is the field's type.
    pub templates: HashMap<String, Vec<String>>,
    /// The only openids that exist; `None`: any.
    pub openids: Option<HashSet<String>>,
    /// Openids that have left their account: 43004.
    pub not_following: HashSet<String>,
    /// Openids that have refused the account's messages: 43101.
    pub refusing: HashSet<String>,
    /// Words that the platform blocks in a template's data: 40249.
    pub blocked_words: Vec<String>,
    /// The only members of every WeCom application; `None`: any.
    pub members: Option<HashSet<String>>,
    /// The person of an address, for [`super::FakeWechat::inbox`]. An address that is not listed is
    /// a person of its own.
    pub people: HashMap<String, String>,

    /// Sends of one account within a minute. Beyond the limit: 45011, in WeCom 45009.
    pub account_minute: Option<Limit>,
    /// Sends of one account within a day. Beyond the limit: 45009.
    pub account_day: Option<Limit>,
    /// Messages of one official account to one openid. Beyond the limit: 43117.
    pub openid: Option<Limit>,
    /// Messages of one WeCom application to one member. Further messages are dropped, and the
    /// answer is success. The platform's own limit is 30 a minute.
    pub member: Option<Limit>,

    /// Longest markdown of WeCom, in bytes.
    pub markdown_bytes_max: usize,
    /// Longest text of WeCom, in bytes.
    pub text_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            accounts: None,
            token_life: TOKEN_LIFE,
            token_overlap: Duration::ZERO,
            token_minute: None,
            token_day: None,
            templates: HashMap::from([(
                TEMPLATE_ID.to_owned(),
                OLD_FIELDS.map(str::to_owned).to_vec(),
            )]),
            openids: None,
            not_following: HashSet::new(),
            refusing: HashSet::new(),
            blocked_words: Vec::new(),
            members: None,
            people: HashMap::new(),
            account_minute: None,
            account_day: None,
            openid: None,
            member: None,
            markdown_bytes_max: 2_048,
            text_bytes_max: 2_048,
        }
    }
}

/// One of the two platforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An official account. Its addresses are openids.
    Official,
    /// An application of WeCom. Its addresses are user ids.
    Wecom,
}

impl Kind {
    /// Prefix of every account id of this kind.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Official => "wx",
            Self::Wecom => "ww",
        }
    }

    const fn secret(self) -> &'static str {
        match self {
            Self::Official => APP_SECRET,
            Self::Wecom => CORP_SECRET,
        }
    }
}

/// An account, to which the platform gives tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account {
    /// The account's platform.
    pub kind: Kind,
    /// Appid or corp id.
    pub id: String,
    /// The secret that a caller must know.
    pub secret: String,
    /// The application of a WeCom secret; `None`: any.
    pub agent_id: Option<i64>,
}

impl Account {
    /// An official account.
    pub fn official(id: &str, secret: &str) -> Self {
        Self { kind: Kind::Official, id: id.into(), secret: secret.into(), agent_id: None }
    }

    /// An application of a company in WeCom. A company may have several, each with its own secret.
    pub fn wecom(id: &str, agent_id: i64, secret: &str) -> Self {
        let agent_id = Some(agent_id);
        Self { kind: Kind::Wecom, id: id.into(), secret: secret.into(), agent_id }
    }

    /// Returns the account of `id` and `secret`, or the errcode of wrong ones.
    pub(super) fn find(
        settings: &Settings,
        kind: Kind,
        id: &str,
        secret: &str,
    ) -> Result<Self, i64> {
        let wrong_secret = match kind {
            Kind::Official => 40125,
            Kind::Wecom => 40001,
        };
        let known: Vec<Self> = match &settings.accounts {
            Some(accounts) => {
                let same = |account: &&Self| account.kind == kind && account.id == id;
                accounts.iter().filter(same).cloned().collect()
            }
            None if id.starts_with(kind.prefix()) => {
                let secret = kind.secret().to_owned();
                vec![Self { kind, id: id.to_owned(), secret, agent_id: None }]
            }
            None => Vec::new(),
        };
        if known.is_empty() {
            return Err(40013);
        }
        known.into_iter().find(|account| account.secret == secret).ok_or(wrong_secret)
    }
}
