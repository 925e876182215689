//! Answers whether a notification can reach anyone, from contacts that were looked up before.
//!
//! Lives as long as a batch. [`super::contacts`] looks contacts up, and [`super::choice`] chooses.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use ljwx_reading::{DeviceSn, Ids};

use super::choice::Choice;
use super::contacts::Contacts;
use crate::engine::routing::{DueNotification, OwedReason, Routed, Router};
use crate::notify::limits::AccountLimits;
use crate::notify::silences::ActiveSilences;
use crate::rules::channel::Channels;

/// The contacts, silences and accounts of a batch.
#[derive(Debug)]
pub struct PeopleRouter {
    silences: ActiveSilences,
    limits: Arc<AccountLimits>,
    contacts: HashMap<Ids, Contacts>,
    /// This process's clock, in milliseconds. Silences depend on it.
    now_ms: i64,
    /// The time of the batch. Whether an account rests does not change within the batch.
    begun: Instant,
}

impl PeopleRouter {
    /// A router that knows no contacts.
    pub fn new(silences: ActiveSilences, limits: Arc<AccountLimits>, now_ms: i64) -> Self {
        Self { silences, limits, contacts: HashMap::new(), now_ms, begun: Instant::now() }
    }

    /// Answers as of `now_ms` from now on.
    pub fn set_now(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
    }

    /// Returns those whose contacts are not known.
    pub fn missing(&self, people: &BTreeSet<Ids>) -> BTreeSet<Ids> {
        people.iter().copied().filter(|ids| !self.contacts.contains_key(ids)).collect()
    }

    /// Takes over contacts that were looked up.
    pub fn add(&mut self, found: HashMap<Ids, Contacts>) {
        self.contacts.extend(found);
    }

    /// Whether a silence covers notifications of a rule on a device now.
    pub fn is_silenced(&self, ids: Ids, device_sn: &DeviceSn, rule_id: i64) -> bool {
        let customer_id = ids.customer_id.unwrap_or_default();
        self.silences.matching(self.now_ms, customer_id, device_sn, rule_id).is_some()
    }

    /// Returns the contacts of an alert, if they were looked up.
    pub fn contacts(&self, ids: Ids) -> Option<&Contacts> {
        self.contacts.get(&ids)
    }

    /// Chooses the recipients of an alert by these channels. Accounts that rest are passed over.
    pub fn choose(&self, ids: Ids, channels: Channels) -> Option<Choice> {
        let rests = |name: &str| self.limits.is_resting(name, self.begun);
        Some(self.contacts.get(&ids)?.choose(channels, &rests))
    }
}

impl Router for PeopleRouter {
    fn route(&self, due: &DueNotification<'_>) -> Option<Routed> {
        let DueNotification { ids, device_sn, rule } = *due;
        if !rule.channels.name_people() {
            return Some(Routed::NoChannel);
        }
        if self.is_silenced(ids, device_sn, rule.id) {
            return Some(Routed::Nobody(OwedReason::Silenced));
        }
        Some(self.choose(ids, rule.channels)?.routed())
    }
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
