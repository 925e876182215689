//! The accounts and settings that a test may change. As the stand-in starts, it knows every account and
//! limits nothing. Counting towards the limits belongs to [`super::platform`].

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::limits::Limit;
use super::template::OLD_FIELDS;

/// Secret of every official account, unless [`Settings::accounts`] says otherwise.
pub const APP_SECRET: &str = "secret-of-the-stand-in";

/// Secret of every application in WeCom, unless [`Settings::accounts`] says otherwise.
pub const CORP_SECRET: &str = "corp-secret-of-the-stand-in";

/// Template of every account here.
pub const TEMPLATE_ID: &str = "template-alarm";

/// The person who receives the alarms.
pub const NURSE: &str = "openid-nurse";

/// As both platforms give tokens.
const TOKEN_LIFE: Duration = Duration::from_secs(7_200);

/// What a test may change, see [`super::FakeWechat::set`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// The only accounts there are; `None`: every id that begins as its kind does, with
    /// [`APP_SECRET`] or [`CORP_SECRET`].
    pub accounts: Option<Vec<Account>>,
    /// How long new tokens live.
    pub token_life: Duration,
    /// How long a token still works after the old token API or a forced refresh has replaced it.
    pub token_overlap: Duration,
    /// Calls for a token of one account: beyond them 45011 within a minute, 45009 within a day.
    pub token_minute: Option<Limit>,
    /// See [`Self::token_minute`].
    pub token_day: Option<Limit>,

    /// Templates of every official account, with the names of their fields; a name without its number
    /// is the field's type.
    pub templates: HashMap<String, Vec<String>>,
    /// The only openids there are; `None`: any.
    pub openids: Option<HashSet<String>>,
    /// Openids that have left their account: 43004.
    pub not_following: HashSet<String>,
    /// Openids that have refused its messages: 43101.
    pub refusing: HashSet<String>,
    /// The only members of every WeCom application; `None`: any.
    pub members: Option<HashSet<String>>,
    /// Whose address an address is, for [`super::FakeWechat::inbox`]; one that is missing here is a
    /// person of its own.
    pub people: HashMap<String, String>,

    /// Sends of one account within a minute: beyond them 45011, in WeCom 45009.
    pub account_minute: Option<Limit>,
    /// Sends of one account within a day: beyond them 45009.
    pub account_day: Option<Limit>,
    /// Messages of one official account to one openid: beyond them 43117.
    pub openid: Option<Limit>,
    /// Messages of one WeCom application to one member. The rest is dropped, and the caller told that
    /// all is well; the platform's own limit is 30 a minute.
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

/// Which of the two platforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An official account; addresses are openids.
    Official,
    /// An application of WeCom; addresses are its user ids.
    Wecom,
}

impl Kind {
    /// How the id of every account of this kind begins.
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

/// An account, which is what a token is given to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account {
    /// Which platform it is one of.
    pub kind: Kind,
    /// Its appid or corp id.
    pub id: String,
    /// What proves that a caller may use it.
    pub secret: String,
    /// The application that a WeCom secret belongs to; `None`: any.
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

    /// The account that `id` and `secret` stand for, or the code of what is wrong with them.
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
