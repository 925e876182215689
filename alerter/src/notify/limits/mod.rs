//! Decides whether an account may send a message now. Keeps, for each account of this replica, its
//! breaker, its rate and the tenants that it serves.
//!
//! Replicas do not share this state: a platform that one replica cannot reach may be reachable from
//! another.

pub mod breaker;
pub mod rate_limit;

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::gauge;

use super::limits::breaker::{Breaker, Health, News};
use super::limits::rate_limit::Bucket;
use crate::metrics::BREAKER_OPEN;
use crate::rules::channel::Channel;

/// Tenants and channels that one claim on the outbox leaves out. Messages of further ones are
/// postponed row by row.
const RESTING_MAX: usize = 100;

/// With more accounts than this, metrics export the accounts as one.
const ACCOUNTS_SHOWN_MAX: usize = 500;

/// The scope that an account serves: a tenant on a channel.
pub type Scope = (i64, Channel);

/// The breakers and rate limits of the accounts used so far.
#[derive(Debug)]
pub struct Gates {
    per_second: u32,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    gates: HashMap<String, Gate>,
    serves: HashMap<Scope, String>,
}

#[derive(Debug)]
struct Gate {
    breaker: Breaker,
    bucket: Bucket,
}

impl Gates {
    /// Starts without accounts. Each account may send `per_second` messages a second.
    pub fn new(per_second: u32) -> Self {
        Self { per_second, known: Mutex::default() }
    }

    /// Whether the account may send a message of this scope now. Otherwise returns how long the
    /// message should wait, and the reason.
    pub fn admit(
        &self,
        name: &str,
        scope: Scope,
        now: Instant,
    ) -> Result<(), (Duration, &'static str)> {
        let mut known = self.lock();
        known.serve(name, scope);
        let gate = known.gates.entry(name.to_owned()).or_insert_with(|| Gate {
            breaker: Breaker::new(now),
            bucket: Bucket::new(self.per_second, now),
        });
        // If the breaker is open, skip the bucket: a granted trial must not be lost for want of a
        // token.
        if !gate.breaker.rests(now) {
            gate.bucket.take(now).map_err(|wait| (wait, "account_limit"))?;
        }
        gate.breaker.admit(now).map_err(|wait| (wait, "breaker_open"))
    }

    /// Reverts an admission, because the message was not sent.
    pub fn abandon(&self, name: &str, now: Instant) {
        if let Some(gate) = self.lock().gates.get_mut(name) {
            gate.breaker.abandon(now);
        }
    }

    /// Records the result of an attempt. Returns the change that operators are notified of.
    pub fn report(&self, name: &str, health: Health, now: Instant, random: f64) -> Option<News> {
        let mut known = self.lock();
        let gate = known.gates.get_mut(name)?;
        let news = gate.breaker.report(health, now, random);
        let failing = gate.breaker.is_failing();
        if known.gates.len() <= ACCOUNTS_SHOWN_MAX {
            show(name, failing);
        } else {
            show("other", known.gates.values().any(|gate| gate.breaker.is_failing()));
        }
        news
    }

    /// Returns the scopes of paused accounts, whose rows need not be claimed now.
    pub fn resting(&self, now: Instant) -> Vec<Scope> {
        let known = self.lock();
        let rests =
            |name: &String| known.gates.get(name).is_some_and(|gate| gate.breaker.rests(now));
        let resting = known.serves.iter().filter(|(_, name)| rests(name));
        resting.map(|(scope, _)| *scope).take(RESTING_MAX).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // A panic while the lock was held leaves both maps usable.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Records the scope that an account serves, and drops accounts that serve no scope any more.
    /// Otherwise the old account of a tenant would stay in the metrics for ever.
    fn serve(&mut self, name: &str, scope: Scope) {
        let before = self.serves.insert(scope, name.to_owned());
        if before.is_none_or(|before| before == name) {
            return;
        }
        let serving: HashSet<_> = self.serves.values().collect();
        self.gates.retain(|name, _| {
            let stays = serving.contains(name);
            if !stays {
                show(name, false);
            }
            stays
        });
    }
}

fn show(name: &str, failing: bool) {
    gauge!(BREAKER_OPEN, "account" => name.to_owned()).set(f64::from(u8::from(failing)));
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: Scope = (7, Channel::Official);
    const BROKEN: Health = Health::Broken(Duration::from_secs(300));

    #[test]
    fn the_rows_of_a_broken_account_rest_and_no_others() {
        let now = Instant::now();
        let gates = Gates::new(50);
        gates.admit("wx7", TENANT, now).unwrap();
        gates.admit("wx8", (8, Channel::Official), now).unwrap();
        assert!(gates.resting(now).is_empty());
        assert_eq!(gates.report("wx7", BROKEN, now, 0.0), Some(News::Opened));
        assert_eq!(gates.resting(now), [TENANT]);
        let wait = gates.admit("wx7", (9, Channel::Official), now).unwrap_err();
        assert_eq!(wait, (Duration::from_secs(300), "breaker_open"));
        assert_eq!(gates.resting(now).len(), 2, "another tenant has the same account");
        assert!(gates.resting(now + Duration::from_secs(300)).is_empty());
    }

    #[test]
    fn a_tenant_with_a_new_account_does_not_wait_for_the_old_one() {
        let now = Instant::now();
        let gates = Gates::new(50);
        gates.admit("wx7", TENANT, now).unwrap();
        gates.report("wx7", BROKEN, now, 0.0);
        assert_eq!(gates.admit("wx9", TENANT, now), Ok(()));
        assert!(gates.resting(now).is_empty());
        assert_eq!(gates.report("wx7", Health::Works, now, 0.0), None, "it is forgotten");
    }

    #[test]
    fn an_account_beyond_its_pace_waits_and_keeps_its_trial() {
        let now = Instant::now();
        let gates = Gates::new(1);
        gates.admit("wx7", TENANT, now).unwrap();
        gates.abandon("wx7", now);
        let (wait, reason) = gates.admit("wx7", TENANT, now).unwrap_err();
        assert_eq!((wait, reason), (Duration::from_secs(1), "account_limit"));
        assert_eq!(gates.admit("wx7", TENANT, now + wait), Ok(()));
    }
}
