//! Decides whether an account may send a message now. Keeps, for each account of this replica, its
//! breaker, its rate and the tenants that it serves. [`send_slots`] bounds the sends under way.
//!
//! Replicas do not share this state: a platform that one replica cannot reach may be reachable from
//! another.

pub mod breaker;
pub mod rate_limit;
pub mod send_slots;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ljwx_service::metrics::flag;
use metrics::gauge;

use super::limits::breaker::{AccountBreaker, AccountHealth, Leaving};
use super::limits::rate_limit::TokenBucket;
use crate::metrics::BREAKER_OPEN;
use crate::rules::Channel;

/// Tenants and channels that one claim on the outbox leaves out. Messages of further ones are
/// postponed row by row.
const PAUSED_MAX: usize = 100;

/// With more accounts than this, metrics export the accounts as one.
const ACCOUNTS_EXPORTED_MAX: usize = 500;

/// The scope that an account serves: a tenant on a channel.
pub type AccountScope = (i64, Channel);

/// The breakers and rate limits of the accounts used so far.
#[derive(Debug)]
pub struct AccountLimits(Mutex<AccountTable>);

#[derive(Debug, Default)]
struct AccountTable {
    per_second: u32,
    accounts: HashMap<String, AccountLimiter>,
    serves: HashMap<AccountScope, String>,
    /// The scopes that had no account when a message was due.
    without: HashSet<AccountScope>,
    /// A hash of the account's settings at each scope: tenants may share an account and differ in the
    /// rest.
    settings: HashMap<AccountScope, u64>,
    /// The last time at which the account of each scope was broken.
    broken_at: HashMap<AccountScope, Instant>,
    /// Broken accounts that were replaced, of which operators are yet to be notified.
    replaced: Vec<String>,
}

#[derive(Debug)]
struct AccountLimiter {
    breaker: AccountBreaker,
    bucket: TokenBucket,
    /// Whether the account, and not its addresses, is the cause of refusals.
    refuses_all: bool,
}

impl AccountLimiter {
    /// Whether the account is paused after a failure. Once a trial is due, it may work: another
    /// replica may have shown it, and this one may have nothing to send.
    fn fails(&self, now: Instant) -> bool {
        self.breaker.is_failing && self.breaker.is_paused(now)
    }

    fn takes_messages(&self, now: Instant) -> bool {
        !self.breaker.is_paused(now) && self.bucket.has_token(now)
    }
}

impl AccountLimits {
    /// Starts without accounts. Each account may send `per_second` messages a second.
    pub fn new(per_second: u32) -> Self {
        Self(Mutex::new(AccountTable { per_second, ..AccountTable::default() }))
    }

    /// Whether the account may send a message of this scope now. Otherwise returns how long the
    /// message should wait, and the reason. Records the scope as [`Self::observe`] does.
    pub fn admit(
        &self,
        name: &str,
        settings: u64,
        scope: AccountScope,
        now: Instant,
    ) -> Result<(), (Duration, &'static str)> {
        let mut known = self.lock();
        let (_, limiter) = known.serve(name, settings, scope, now);
        // If the breaker is open, skip the bucket: a granted trial must not be lost for want of a
        // token.
        if !limiter.breaker.is_paused(now) {
            limiter.bucket.take(now).map_err(|wait| (wait, "account_limit"))?;
        }
        limiter.breaker.admit(now).map_err(|wait| (wait, "breaker_open"))
    }

    /// Records the account of a scope, and a hash of its settings. Returns whether they changed, or
    /// the scope had no account. A failing account with changed settings is tried at once. Otherwise
    /// a fixed account would rest as long as a broken one.
    pub fn observe(&self, name: &str, settings: u64, scope: AccountScope, now: Instant) -> bool {
        let mut known = self.lock();
        let had_none = known.without.remove(&scope);
        known.serve(name, settings, scope, now).0 || had_none
    }

    /// Records that a scope has no account, until [`Self::observe`] finds one.
    pub fn record_missing(&self, scope: AccountScope) {
        self.lock().without.insert(scope);
    }

    /// Whether the account is broken or has used up its day, and no trial is due. Waiting
    /// notifications leave it, and new ones pass it over.
    pub fn is_resting(&self, name: &str, now: Instant) -> bool {
        let known = self.lock();
        let leaving = known.accounts.get(name).and_then(|limiter| limiter.breaker.leaving(now));
        leaving == Some(Leaving::All)
    }

    /// Whether the account of a scope was broken at some time in the last `period`: what has waited
    /// for so long has waited for the account.
    pub fn was_broken(&self, scope: AccountScope, period: Duration, now: Instant) -> bool {
        let known = self.lock();
        let limiter = known.serves.get(&scope).and_then(|name| known.accounts.get(name));
        let broken_at = known.broken_at.get(&scope);
        limiter.is_some_and(|limiter| limiter.breaker.is_broken)
            || broken_at.is_some_and(|at| now.saturating_duration_since(*at) <= period)
    }

    /// Whether the account takes messages now. An account that was never used does.
    pub fn takes_messages(&self, name: &str, now: Instant) -> bool {
        self.lock().accounts.get(name).is_none_or(|limiter| limiter.takes_messages(now))
    }

    /// Returns the scopes of accounts that do not send, and those without an account, with what
    /// leaves them.
    pub fn leaving(&self, now: Instant) -> HashMap<AccountScope, Leaving> {
        let known = self.lock();
        let of = |name: &String| known.accounts.get(name)?.breaker.leaving(now);
        let served = known.serves.iter().filter_map(|(scope, name)| Some((*scope, of(name)?)));
        served.chain(known.without.iter().map(|scope| (*scope, Leaving::All))).collect()
    }

    /// Records that the account, which fails, is the cause of refusals, until it works.
    pub fn refuse_all(&self, name: &str) {
        if let Some(limiter) = self.lock().accounts.get_mut(name) {
            limiter.refuses_all = true;
        }
    }

    /// Returns the accounts that are the cause of refusals.
    pub fn causes(&self) -> HashSet<String> {
        let known = self.lock();
        let causes = known.accounts.iter().filter(|(_, limiter)| limiter.refuses_all);
        causes.map(|(name, _)| name.clone()).collect()
    }

    /// Whether the account, and not its addresses, is the cause of refusals.
    pub fn refuses_all(&self, name: &str) -> bool {
        self.lock().accounts.get(name).is_some_and(|limiter| limiter.refuses_all)
    }

    /// Returns the tenants that an account serves.
    pub fn customers(&self, name: &str) -> BTreeSet<i64> {
        let known = self.lock();
        let serving = known.serves.iter().filter(|(_, account)| *account == name);
        serving.map(|((customer_id, _), _)| *customer_id).collect()
    }

    /// Reverts an admission, because the message was not sent.
    pub fn abandon(&self, name: &str, now: Instant) {
        if let Some(limiter) = self.lock().accounts.get_mut(name) {
            limiter.breaker.abandon(now);
        }
    }

    /// Records the result of an attempt. Returns whether the account is broken, of which operators
    /// are notified. `None`: it serves nobody any more.
    pub fn report(
        &self,
        name: &str,
        health: AccountHealth,
        now: Instant,
        random: f64,
    ) -> Option<bool> {
        let mut known = self.lock();
        let limiter = known.accounts.get_mut(name)?;
        let was_broken = limiter.breaker.is_broken;
        limiter.breaker.report(health, now, random);
        let (failing, is_broken) = (limiter.breaker.is_failing, limiter.breaker.is_broken);
        limiter.refuses_all &= failing;
        if was_broken || is_broken {
            let AccountTable { serves, broken_at, .. } = &mut *known;
            let serving = serves.iter().filter(|(_, account)| *account == name);
            broken_at.extend(serving.map(|(scope, _)| (*scope, now)));
        }
        if known.accounts.len() <= ACCOUNTS_EXPORTED_MAX {
            export(name, failing);
        } else {
            export("other", known.accounts.values().any(|limiter| limiter.breaker.is_failing));
        }
        Some(is_broken)
    }

    /// Returns the broken accounts that were replaced since the last call. No message can show that they
    /// work.
    pub fn take_replaced(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().replaced)
    }

    /// Returns the name of the scope's account. The scope's own name stands for an account that is
    /// not known yet, and for one that the tenant does not have.
    pub fn account(&self, scope: AccountScope) -> String {
        let mut known = self.lock();
        let own_name = || format!("{}:{}", scope.1.kind(), scope.0);
        known.serves.entry(scope).or_insert_with(own_name).clone()
    }

    /// Returns the scopes of accounts that take no message now, whose rows need not be claimed.
    /// `full` are the accounts without a free slot.
    pub fn paused(&self, full: &HashSet<String>, now: Instant) -> Vec<AccountScope> {
        let known = self.lock();
        let is_paused = |name: &String| {
            let limiter = known.accounts.get(name);
            full.contains(name) || limiter.is_some_and(|limiter| !limiter.takes_messages(now))
        };
        let mut paused: Vec<_> = known.serves.iter().filter(|(_, name)| is_paused(name)).collect();
        // Rows without a free slot cannot be postponed either, so they come first.
        paused.sort_by_key(|(_, name)| !full.contains(*name));
        paused.into_iter().map(|(scope, _)| *scope).take(PAUSED_MAX).collect()
    }

    /// Returns the scopes of accounts that are paused after a failure.
    pub fn failing(&self, now: Instant) -> Vec<AccountScope> {
        let known = self.lock();
        let fails = |name: &String| known.accounts.get(name).is_some_and(|own| own.fails(now));
        let failing = known.serves.iter().filter(|(_, name)| fails(name));
        failing.map(|(scope, _)| *scope).take(PAUSED_MAX).collect()
    }

    /// Whether accounts were used, and each is paused after a failure.
    pub fn all_fail(&self, now: Instant) -> bool {
        let known = self.lock();
        !known.accounts.is_empty() && known.accounts.values().all(|limiter| limiter.fails(now))
    }

    fn lock(&self) -> MutexGuard<'_, AccountTable> {
        // A panic while the lock was held leaves both maps usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccountTable {
    /// Records the account that serves a scope. Returns whether the scope's settings changed, and
    /// the account's limiter. Drops the scope's old account if it serves no scope any more. Otherwise
    /// it would stay in the metrics for ever.
    fn serve(
        &mut self,
        name: &str,
        settings: u64,
        scope: AccountScope,
        now: Instant,
    ) -> (bool, &mut AccountLimiter) {
        let before = self.settings.insert(scope, settings);
        let changed = before.is_some_and(|before| before != settings);
        if let Some(before) = self.serves.insert(scope, name.to_owned())
            && before != name
            && self.serves.values().all(|other| *other != before)
            && let Some(limiter) = self.accounts.remove(&before)
        {
            export(&before, false);
            self.replaced.extend(limiter.breaker.is_broken.then_some(before));
        }
        let limiter = self.accounts.entry(name.to_owned()).or_insert_with(|| AccountLimiter {
            breaker: AccountBreaker::new(now),
            bucket: TokenBucket::new(self.per_second, now),
            refuses_all: false,
        });
        if changed && limiter.breaker.is_failing {
            limiter.breaker.renew(now);
        }
        (changed, limiter)
    }
}

fn export(name: &str, failing: bool) {
    gauge!(BREAKER_OPEN, "account" => name.to_owned()).set(flag(failing));
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
