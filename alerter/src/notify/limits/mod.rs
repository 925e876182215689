//! Whether a message may go through an account now: what this replica knows of the accounts it sends
//! through, whether they work, how fast they may send, and whom they serve.
//!
//! Other replicas learn for themselves: what is unreachable from here may be reachable from there.

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

/// Tenants and channels that one look into the outbox leaves out; more are put off row by row.
const RESTING_MAX: usize = 100;

/// With more accounts than this, metrics show them as one.
const ACCOUNTS_SHOWN_MAX: usize = 500;

/// Whom an account serves: a tenant on a channel.
pub type Scope = (i64, Channel);

/// The gates of the accounts that were used so far.
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
    /// No account yet; each may send so many messages a second.
    pub fn new(per_second: u32) -> Self {
        Self { per_second, known: Mutex::default() }
    }

    /// Whether a message of this scope may go through the account now; else how long it had better
    /// wait, and for what.
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
        // A trial is one message; it must not be lost to the bucket after it was granted.
        if !gate.breaker.rests(now) {
            gate.bucket.take(now).map_err(|wait| (wait, "account_limit"))?;
        }
        gate.breaker.admit(now).map_err(|wait| (wait, "breaker_open"))
    }

    /// Takes back that a message was let through: it was not sent.
    pub fn abandon(&self, name: &str, now: Instant) {
        if let Some(gate) = self.lock().gates.get_mut(name) {
            gate.breaker.abandon(now);
        }
    }

    /// Notes what an attempt came to; what operators are to hear of it comes back.
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

    /// Whose rows are not worth looking at now.
    pub fn resting(&self, now: Instant) -> Vec<Scope> {
        let known = self.lock();
        let rests =
            |name: &String| known.gates.get(name).is_some_and(|gate| gate.breaker.rests(now));
        let resting = known.serves.iter().filter(|(_, name)| rests(name));
        resting.map(|(scope, _)| *scope).take(RESTING_MAX).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // A panic while the lock was held leaves maps that are still maps.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Notes whom an account serves, and forgets accounts that serve nobody any more: a tenant whose
    /// account was replaced is not told of the old one for ever.
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
