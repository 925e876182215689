//! The state that both platforms share: accounts with their tokens, limits, and the messages
//! received.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Url;

use super::fault::Faults;
use super::limits::Limits;
use super::message::Inbox;
use super::recent::Recent;
use super::settings::{Account, Kind, Settings};
use super::token::{Invalid, Tokens};

/// Most accounts whose calls are counted one by one.
const COUNTED_MAX: usize = 1_000;

/// The whole state of the fake.
#[derive(Debug)]
pub(super) struct Platform {
    pub(super) settings: Settings,
    pub(super) tokens: Tokens,
    pub(super) faults: Faults,
    pub(super) limits: Limits,
    pub(super) recent: Recent,
    pub(super) inbox: Inbox,
    pub(super) token_requests: Calls,
    pub(super) sends: Calls,
    started: Instant,
    ahead: Duration,
}

pub(super) type Shared = Arc<Mutex<Platform>>;

/// The number of calls of one kind.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pub(super) all: usize,
    of: HashMap<String, usize>,
}

impl Calls {
    pub(super) fn note(&mut self, account: &str) {
        self.all += 1;
        if let Some(calls) = self.of.get_mut(account) {
            *calls += 1;
        } else if self.of.len() < COUNTED_MAX {
            self.of.insert(account.to_owned(), 1);
        }
    }

    pub(super) fn of(&self, account: &str) -> usize {
        self.of.get(account).copied().unwrap_or_default()
    }
}

impl Default for Platform {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            tokens: Tokens::default(),
            faults: Faults::default(),
            limits: Limits::default(),
            recent: Recent::default(),
            inbox: Inbox::default(),
            token_requests: Calls::default(),
            sends: Calls::default(),
            started: Instant::now(),
            ahead: Duration::ZERO,
        }
    }
}

impl Platform {
    /// The fake's clock: the time since its start, and the time it was put ahead.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed() + self.ahead
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.ahead += by;
    }

    /// Returns the account that requests a token, or the errcode of an invalid request.
    pub(super) fn account(&mut self, kind: Kind, id: &str, secret: &str) -> Result<Account, i64> {
        if id.is_empty() {
            return Err(41002);
        }
        if secret.is_empty() {
            return Err(41004);
        }
        let now = self.now();
        let (minute, day) = (self.settings.token_minute, self.settings.token_day);
        if !self.limits.take("tokens a minute", id, minute, now) {
            return Err(45011);
        }
        if !self.limits.take("tokens a day", id, day, now) {
            return Err(45009);
        }
        Account::find(&self.settings, kind, id, secret)
    }

    /// Counts a send. Returns the account of the token in the query, or the errcode of an invalid
    /// token.
    pub(super) fn admit(&mut self, kind: Kind, query: &str) -> Result<Account, i64> {
        let owner = self.tokens.owner(&parameter(query, "access_token"), self.now());
        self.sends.note(owner.as_ref().map_or("", |account| account.id.as_str()));
        self.holder(kind, query)
    }

    /// Returns the account of the token in the query, or the errcode of an invalid token.
    pub(super) fn holder(&self, kind: Kind, query: &str) -> Result<Account, i64> {
        let token = parameter(query, "access_token");
        match self.tokens.owner(&token, self.now()) {
            _ if token.is_empty() => Err(41001),
            Ok(account) if account.kind == kind => Ok(account),
            Err(Invalid::Expired) => Err(42001),
            // WeCom has one errcode for every text that is no token of its own.
            Ok(_) | Err(Invalid::Replaced) if kind == Kind::Official => Err(40001),
            Ok(_) | Err(Invalid::Replaced | Invalid::Malformed) => Err(40014),
        }
    }

    /// Counts a send towards its account's limits. Returns the errcode of a limit that it exceeds.
    pub(super) fn charge(&mut self, account: &Account) -> Result<(), i64> {
        let now = self.now();
        let (minute, day) = (self.settings.account_minute, self.settings.account_day);
        if !self.limits.take("sends a minute", &account.id, minute, now) {
            return Err(match account.kind {
                Kind::Official => 45011,
                Kind::Wecom => 45009,
            });
        }
        if !self.limits.take("sends a day", &account.id, day, now) {
            return Err(45009);
        }
        Ok(())
    }
}

/// Returns a parameter of a query, decoded; empty if the query has none.
pub(super) fn parameter(query: &str, name: &str) -> String {
    let Ok(url) = Url::parse(&format!("http://stand-in/?{query}")) else { return String::new() };
    let mut pairs = url.query_pairs();
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}
