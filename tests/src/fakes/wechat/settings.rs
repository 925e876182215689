//! What the stand-in knows and what it allows. As it starts, it knows everybody and limits nothing.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::TEMPLATE_ID;
use super::account::Account;
use super::limits::Limit;
use super::template::OLD_FIELDS;

/// As both platforms give tokens.
const TOKEN_LIFE: Duration = Duration::from_secs(7_200);

/// What a test may change, see [`super::FakeWechat::set`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// The only accounts there are; `None`: every id that begins as its kind does, with
    /// [`super::APP_SECRET`] or [`super::CORP_SECRET`].
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
