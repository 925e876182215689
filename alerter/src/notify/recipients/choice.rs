//! Chooses the addresses that receive an alert, and finds the channels that reach no one.
//!
//! Pure. A channel word of a rule counts if the tenant has an account for it, whatever state the
//! account is in. The watch counts only if no word with an account stands beside it. A notification
//! reaches someone if a word that counts does.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::engine::routing::{OwedReason, Routed};
use crate::notify::address::{Address, DEFAULT_USER, EVERYBODY, Recipient};
use crate::notify::wechat::Accounts;
use crate::rules::{Channel, Channels};

/// Most addresses that one alert notifies.
pub const RECIPIENTS_MAX: usize = 50;

/// The addresses of each user.
pub(crate) type Addresses = HashMap<i64, Arc<[KnownAddress]>>;

/// An address as the table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownAddress {
    pub(crate) address: Address,
    /// Whether the platform has refused the address lately.
    pub(crate) is_disabled: bool,
}

/// The accounts and addresses of a tenant.
#[derive(Debug, Clone, Default)]
pub(crate) struct TenantContacts {
    pub(crate) accounts: Arc<Accounts>,
    addresses: Addresses,
}

/// The recipients of an alert.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// The addresses, sorted and distinct.
    pub recipients: Vec<Recipient>,
    /// Addresses beyond [`RECIPIENTS_MAX`].
    pub omitted: usize,
    /// Whether a message on the watch notifies someone: only if no other channel counts.
    pub watch_counts: bool,
    /// The words of the rule that count and reach no one, with the reason.
    pub unreachable: Vec<(&'static str, OwedReason)>,
    /// The words of the rule that do not count, because the tenant never had an account for them.
    pub unserved: Vec<&'static str>,
}

impl Choice {
    /// Whether a message to the recipient notifies someone.
    pub fn counts(&self, recipient: &Recipient) -> bool {
        self.watch_counts || recipient.address.channel != Channel::Message
    }

    /// Returns whom the alert reaches.
    pub fn routed(&self) -> Routed {
        let reason = self.unreachable.first().map(|(_, reason)| *reason);
        match self.recipients.iter().any(|recipient| self.counts(recipient)) {
            true => Routed::Somebody,
            false => Routed::Nobody(reason.unwrap_or(OwedReason::NoRecipient)),
        }
    }
}

/// A channel word of a rule that needs an account.
struct ChannelWord {
    name: &'static str,
    /// The kinds of account that serve the word, the preferred kind first.
    kinds: &'static [Channel],
    /// Those of them that can be used now.
    usable: Vec<Channel>,
}

/// Chooses the recipients. `people` begins with the people concerned most. `rests` tells whether the
/// account of this name is passed over.
pub(super) fn choose(
    contacts: &TenantContacts,
    people: &[i64],
    channels: Channels,
    rests: &dyn Fn(&str) -> bool,
) -> Choice {
    let is_usable =
        |kind: &Channel| contacts.accounts.of(*kind).is_some_and(|account| !rests(&account.name));
    let word = |name, kinds: &'static [Channel]| ChannelWord {
        name,
        kinds,
        usable: kinds.iter().copied().filter(is_usable).collect(),
    };
    let wechat = channels.wechat.then(|| word("wechat", &[Channel::Official, Channel::Wecom]));
    let wecom = channels.wecom.then(|| word("wecom", &[Channel::Wecom]));
    let (mut counting, mut unserved): (Vec<_>, Vec<_>) = [wechat, wecom]
        .into_iter()
        .flatten()
        .partition(|word| word.kinds.iter().any(|kind| contacts.accounts.has_row(*kind)));
    let watch_counts = counting.is_empty() && channels.message;
    if counting.is_empty() && !channels.message {
        // No other channel of the rule reaches people.
        std::mem::swap(&mut counting, &mut unserved);
    }
    let mut chosen = chosen(contacts, people, &counting, channels.message);
    // The watch does not count beside the other channels, so it is omitted first.
    chosen.sort_by_key(|recipient| recipient.address.channel == Channel::Message);
    let omitted = chosen.len().saturating_sub(RECIPIENTS_MAX);
    chosen.truncate(RECIPIENTS_MAX);
    chosen.sort_unstable();
    let unreachable = counting.iter().filter(|word| !word.reaches(&chosen));
    let mut unreachable: Vec<_> =
        unreachable.map(|word| (word.name, word.reason(contacts, people))).collect();
    if watch_counts && chosen.is_empty() {
        unreachable.push(("message", OwedReason::NoRecipient));
    }
    let unserved = unserved.into_iter().map(|word| word.name).collect();
    Choice { recipients: chosen, omitted, watch_counts, unreachable, unserved }
}

/// Returns the recipients by the words that count, and on the watch if `message` is set.
fn chosen(
    contacts: &TenantContacts,
    people: &[i64],
    counting: &[ChannelWord],
    message: bool,
) -> Vec<Recipient> {
    let mut chosen: Vec<Recipient> = Vec::new();
    for user_id in people.iter().copied() {
        if message {
            let address = Address { channel: Channel::Message, name: user_id.to_string() };
            chosen.push(Recipient { address, user_id });
        }
        chosen
            .extend(counting.iter().flat_map(|word| contacts.first(user_id, &word.usable, false)));
    }
    for word in counting {
        let of_user = |user_id| contacts.first(user_id, &word.usable, false);
        // If no person is known, the alert counts as one person without an address.
        let lacks = people.is_empty() || people.iter().any(|user_id| of_user(*user_id).is_empty());
        let everybody = if lacks { of_user(EVERYBODY) } else { Vec::new() };
        if !word.reaches(&chosen) && everybody.is_empty() {
            chosen.extend(of_user(DEFAULT_USER));
        }
        chosen.extend(everybody);
    }
    let mut addresses = HashSet::new();
    chosen.retain(|recipient| addresses.insert(recipient.address.clone()));
    chosen
}

impl TenantContacts {
    /// The accounts of a tenant, and the addresses of its users in the table. The default addresses of
    /// the accounts become those of [`DEFAULT_USER`], whose rows only say which are disabled.
    pub(crate) fn new(accounts: Arc<Accounts>, mut addresses: Addresses) -> Self {
        let rows = addresses.remove(&DEFAULT_USER).unwrap_or_default();
        let defaults = accounts.usable().filter_map(|account| account.default_address());
        let defaults = defaults.map(|address| KnownAddress {
            is_disabled: rows.iter().any(|row| row.is_disabled && row.address == address),
            address,
        });
        addresses.insert(DEFAULT_USER, defaults.collect());
        Self { accounts, addresses }
    }

    /// Passes an address over as if the platform had refused it.
    pub(super) fn leave_out(&mut self, address: &Address) {
        for known in self.addresses.values_mut() {
            let mut marked = known.to_vec();
            marked.iter_mut().for_each(|one| one.is_disabled |= one.address == *address);
            *known = marked.into();
        }
    }

    fn of(&self, user_id: i64) -> &[KnownAddress] {
        self.addresses.get(&user_id).map_or(&[][..], |addresses| &addresses[..])
    }

    /// Returns a user's own addresses as an alert by `wechat` would find them. If all are disabled,
    /// returns the disabled ones.
    pub(super) fn own(&self, user_id: i64) -> Vec<Address> {
        let kinds: Vec<Channel> = self.accounts.usable().map(|account| account.channel()).collect();
        let enabled = self.first(user_id, &kinds, false);
        let own = if enabled.is_empty() { self.first(user_id, &kinds, true) } else { enabled };
        own.into_iter().map(|recipient| recipient.address).collect()
    }

    /// Returns a user's addresses, disabled or not, of the first of these kinds that has any.
    fn first(&self, user_id: i64, kinds: &[Channel], is_disabled: bool) -> Vec<Recipient> {
        let of_kind = |kind: &Channel| -> Vec<Recipient> {
            let known = self
                .of(user_id)
                .iter()
                .filter(|known| known.is_disabled == is_disabled && known.address.channel == *kind);
            known.map(|known| Recipient { address: known.address.clone(), user_id }).collect()
        };
        kinds.iter().map(of_kind).find(|found| !found.is_empty()).unwrap_or_default()
    }
}

impl ChannelWord {
    /// Whether one of these recipients is reached by the word.
    fn reaches(&self, recipients: &[Recipient]) -> bool {
        recipients.iter().any(|recipient| self.usable.contains(&recipient.address.channel))
    }

    /// Returns why the word reaches no one.
    fn reason(&self, contacts: &TenantContacts, people: &[i64]) -> OwedReason {
        let users = people.iter().copied().chain([EVERYBODY, DEFAULT_USER]);
        let known: Vec<_> = users.flat_map(|user_id| contacts.of(user_id)).collect();
        let is_idle = |known: &&KnownAddress| {
            let kind = known.address.channel;
            !known.is_disabled && self.kinds.contains(&kind) && contacts.accounts.has_row(kind)
        };
        if known.iter().any(|known| self.usable.contains(&known.address.channel)) {
            OwedReason::Refused
        } else if self.usable.is_empty() || known.iter().any(is_idle) {
            // An address is known for an account that cannot be used.
            OwedReason::NoAccount
        } else {
            OwedReason::NoRecipient
        }
    }
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
