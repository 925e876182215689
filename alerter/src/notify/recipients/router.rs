//! Answers whether a notification can reach anyone, from contacts that were looked up before.
//!
//! Lives as long as a batch. [`super::contacts`] looks contacts up, and [`super::choice`] chooses.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use ljwx_reading::{DeviceSn, Ids};

use super::choice::Choice;
use super::contacts::Contacts;
use crate::engine::routing::{OwedReason, Routed, Router};
use crate::notify::limits::AccountLimits;
use crate::notify::silences::ActiveSilences;
use crate::rules::{Channels, Rule};

/// The contacts, silences and accounts of a batch.
#[derive(Debug)]
pub struct PeopleRouter {
    silences: ActiveSilences,
    limits: Arc<AccountLimits>,
    contacts: HashMap<Ids, Contacts>,
    /// Whether an account rests. The sender may change that at any time, and recipients are chosen
    /// twice: before a step, and for its rows. So the first answer holds for the batch.
    resting: HashMap<String, bool>,
    /// This process's clock, in milliseconds. Silences depend on it.
    pub now_ms: i64,
}

impl PeopleRouter {
    /// A router that knows no contacts.
    pub fn new(silences: ActiveSilences, limits: Arc<AccountLimits>, now_ms: i64) -> Self {
        Self { silences, limits, contacts: HashMap::new(), resting: HashMap::new(), now_ms }
    }

    /// Returns the number of ids whose contacts are known.
    pub fn known(&self) -> usize {
        self.contacts.len()
    }

    /// Returns those whose contacts are not known.
    pub fn missing(&self, people: &BTreeSet<Ids>) -> BTreeSet<Ids> {
        people.iter().copied().filter(|ids| !self.contacts.contains_key(ids)).collect()
    }

    /// Takes over contacts that were looked up.
    pub fn add(&mut self, found: HashMap<Ids, Contacts>) {
        let Self { limits, resting, .. } = self;
        for contacts in found.values() {
            for account in contacts.accounts().usable() {
                let rests = |name: &String| limits.is_resting(name, Instant::now());
                resting.entry(account.name.clone()).or_insert_with_key(rests);
            }
        }
        self.contacts.extend(found);
    }

    /// Whether a silence covers notifications of a rule on a device now.
    pub fn is_silenced(&self, ids: Ids, device_sn: &DeviceSn, rule_id: i64) -> bool {
        let customer_id = ids.customer_id.unwrap_or_default();
        self.silences.covers(self.now_ms, (customer_id, device_sn, rule_id))
    }

    /// Returns the contacts of an alert, if they were looked up.
    pub fn contacts(&self, ids: Ids) -> Option<&Contacts> {
        self.contacts.get(&ids)
    }

    /// Chooses the recipients of an alert by these channels. Accounts that rest are passed over.
    pub fn choose(&self, ids: Ids, channels: Channels) -> Option<Choice> {
        let rests = |name: &str| self.resting.get(name).is_some_and(|rests| *rests);
        Some(self.contacts.get(&ids)?.choose(channels, &rests))
    }
}

impl Router for PeopleRouter {
    fn route(&self, ids: Ids, device_sn: &DeviceSn, rule: &Rule) -> Option<Routed> {
        if self.is_silenced(ids, device_sn, rule.id) {
            return Some(Routed::Nobody(OwedReason::Silenced));
        }
        Some(self.choose(ids, rule.channels)?.routed())
    }
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
