//! Of the people who are concerned and their addresses, which are told.
//!
//! Pure.

use std::collections::HashMap;
use std::sync::Arc;

use crate::notify::address::Address;
use crate::notify::wechat::Accounts;
use crate::rules::channel::{Channel, Channels};

/// Most addresses that one alert tells.
pub(super) const RECIPIENTS_MAX: usize = 50;

/// The addresses of each user; user 0 stands for everybody without an own one.
pub(super) type Addresses = HashMap<i64, Arc<[Address]>>;

/// For each word of a rule the kinds of account that carry it, the preferred one first: a person is
/// told by the first of them by which one is known.
pub(super) fn ways(accounts: &Accounts, channels: Channels) -> Vec<Vec<Channel>> {
    let has = |channel: &Channel| match channel {
        Channel::Official => accounts.official.is_some(),
        Channel::Wecom => accounts.wecom.is_some(),
        Channel::Message => false,
    };
    [
        (channels.wechat, &[Channel::Official, Channel::Wecom][..]),
        (channels.wecom, &[Channel::Wecom][..]),
    ]
    .into_iter()
    .filter(|(wanted, _)| *wanted)
    .map(|(_, kinds)| kinds.iter().copied().filter(|kind| has(kind)).collect::<Vec<_>>())
    .filter(|kinds| !kinds.is_empty())
    .collect()
}

/// Who is told by `ways` and, where `message` says so, by the platform's own messages. Sorted, each
/// once; the number is that of those for whom there was no more room. `people` begins with whom it
/// concerns most.
pub(super) fn choose(
    people: &[i64],
    addresses: &Addresses,
    accounts: &Accounts,
    ways: &[Vec<Channel>],
    message: bool,
) -> (Vec<Address>, usize) {
    let mut chosen: Vec<Address> = Vec::new();
    let add = |chosen: &mut Vec<Address>, found: Vec<Address>| {
        for address in found {
            if !chosen.contains(&address) {
                chosen.push(address);
            }
        }
    };
    // Nobody known is one person without an address.
    let mut lacking = vec![people.is_empty(); ways.len()];
    for user_id in people {
        if message {
            let name = user_id.to_string();
            add(&mut chosen, vec![Address { channel: Channel::Message, name }]);
        }
        for (way, lacking) in ways.iter().zip(&mut lacking) {
            let own = first_known(addresses.get(user_id), way);
            *lacking |= own.is_empty();
            add(&mut chosen, own);
        }
    }
    for (way, lacking) in ways.iter().zip(lacking) {
        let told = chosen.iter().any(|address| way.contains(&address.channel));
        let everybody = if lacking { first_known(addresses.get(&0), way) } else { Vec::new() };
        if !told && everybody.is_empty() {
            let default = way.iter().find_map(|channel| accounts.default_address(*channel));
            add(&mut chosen, default.into_iter().collect());
        }
        add(&mut chosen, everybody);
    }
    let cut = chosen.len().saturating_sub(RECIPIENTS_MAX);
    chosen.truncate(RECIPIENTS_MAX);
    chosen.sort_unstable();
    (chosen, cut)
}

/// A user's addresses of the first kind of which there are any.
fn first_known(addresses: Option<&Arc<[Address]>>, way: &[Channel]) -> Vec<Address> {
    let of = |kind: &Channel| -> Vec<Address> {
        let all = addresses.into_iter().flat_map(|addresses| addresses.iter());
        all.filter(|address| address.channel == *kind).cloned().collect()
    };
    way.iter().map(of).find(|found| !found.is_empty()).unwrap_or_default()
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
