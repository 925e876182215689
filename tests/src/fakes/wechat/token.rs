//! The valid tokens: the end of each, and the token that replaced it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use uuid::Uuid;

use super::settings::Account;

/// Most tokens remembered. Beyond them the oldest are as unknown as any other text.
const TOKENS_MAX: usize = 1_000;

/// The length of every token: the platform asks its users for so much room.
const TOKEN_BYTES: usize = 512;

/// The beginning of every token. A text without it never was a token.
pub const TOKEN_PREFIX: &str = "token-of-the-stand-in-";

/// A stable token is replaced in the last part of its life: five minutes of two hours.
const RENEWED_IN_LAST: u32 = 24;

/// The call that gave a token. Tokens of different calls do not replace each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// `stable_token`.
    Stable,
    /// The old `token`.
    Old,
    /// WeCom's `gettoken`.
    Corp,
}

/// The reason why a token does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Invalid {
    /// The text does not have a token's form.
    Malformed,
    /// The token was replaced, revoked, or never given.
    Replaced,
    /// The token has expired.
    Expired,
}

#[derive(Debug)]
struct Grant {
    slot: (Source, Account),
    life: Duration,
    expires: Duration,
    replaced: Option<Duration>,
}

impl Grant {
    fn state(&self, now: Duration) -> Result<(), Invalid> {
        if self.replaced.is_some_and(|replaced| replaced <= now) {
            return Err(Invalid::Replaced);
        }
        if self.expires <= now { Err(Invalid::Expired) } else { Ok(()) }
    }
}

/// All tokens. Times are the fake's, since its start.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    grants: HashMap<String, Grant>,
    order: VecDeque<String>,
    current: HashMap<(Source, Account), String>,
}

impl Tokens {
    /// Returns the account's token, or a new one if the token is missing or near its end, and its
    /// remaining life.
    pub(super) fn current(
        &mut self,
        source: Source,
        account: &Account,
        life: Duration,
        now: Duration,
    ) -> (String, Duration) {
        let slot = (source, account.clone());
        if let Some(token) = self.current.get(&slot)
            && let Some(grant) = self.grants.get(token)
            && grant.state(now).is_ok()
        {
            let early = match source {
                Source::Stable => grant.life / RENEWED_IN_LAST,
                Source::Old | Source::Corp => Duration::ZERO,
            };
            let left = grant.expires - now;
            if left > early {
                return (token.clone(), left);
            }
        }
        (self.give(slot, life, now), life)
    }

    /// Gives a new token in place of the account's token, which works for `overlap` longer.
    pub(super) fn replace(
        &mut self,
        source: Source,
        account: &Account,
        life: Duration,
        overlap: Duration,
        now: Duration,
    ) -> (String, Duration) {
        let slot = (source, account.clone());
        if let Some(grant) = self.current.get(&slot).and_then(|token| self.grants.get_mut(token)) {
            grant.replaced = Some(now + overlap);
        }
        (self.give(slot, life, now), life)
    }

    fn give(&mut self, slot: (Source, Account), life: Duration, now: Duration) -> String {
        // The token is random, because a service may still hold a token of an earlier fake.
        let mut token = format!("{TOKEN_PREFIX}{}-", Uuid::new_v4());
        token.extend(std::iter::repeat_n('x', TOKEN_BYTES.saturating_sub(token.len())));
        let grant = Grant { slot: slot.clone(), life, expires: now + life, replaced: None };
        self.grants.insert(token.clone(), grant);
        self.order.push_back(token.clone());
        self.current.insert(slot, token.clone());
        if self.order.len() > TOKENS_MAX
            && let Some(oldest) = self.order.pop_front()
            && let Some(grant) = self.grants.remove(&oldest)
            && self.current.get(&grant.slot) == Some(&oldest)
        {
            self.current.remove(&grant.slot);
        }
        token
    }

    /// Returns the account of a token.
    pub(super) fn owner(&self, token: &str, now: Duration) -> Result<Account, Invalid> {
        if !token.starts_with(TOKEN_PREFIX) {
            return Err(Invalid::Malformed);
        }
        let grant = self.grants.get(token).ok_or(Invalid::Replaced)?;
        grant.state(now).map(|()| grant.slot.1.clone())
    }

    /// Makes every token expire.
    pub(super) fn expire(&mut self, now: Duration) {
        for grant in self.grants.values_mut() {
            grant.expires = grant.expires.min(now);
        }
    }

    /// Revokes every token of an account.
    pub(super) fn revoke(&mut self, id: &str, now: Duration) {
        for grant in self.grants.values_mut().filter(|grant| grant.slot.1.id == id) {
            grant.replaced = Some(now);
        }
    }
}

#[cfg(test)]
#[path = "tests/token.rs"]
mod tests;
