//! Chooses the addresses that receive an alert.
//!
//! Pure.

use std::collections::HashMap;
use std::sync::Arc;

use crate::notify::address::{Address, DEFAULT_USER, EVERYBODY, Recipient};
use crate::notify::wechat::Accounts;
use crate::rules::channel::{Channel, Channels};

/// Most addresses that one alert notifies.
pub(super) const RECIPIENTS_MAX: usize = 50;

/// The addresses of each user. User 0 stands for all users without an address of their own.
pub(super) type Addresses = HashMap<i64, Arc<[Address]>>;

/// Returns, for each channel word of a rule, the kinds of account that serve it, the preferred one
/// first. A person is notified by the first kind for which an address is known.
pub(super) fn account_channels(accounts: &Accounts, channels: Channels) -> Vec<Vec<Channel>> {
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

/// Chooses the addresses by `ways` and, if `message` is set, the platform's own messages. The
/// addresses are sorted and distinct. The number counts addresses beyond [`RECIPIENTS_MAX`].
/// `people` begins with the people concerned most. `without` holds addresses that are left out.
pub(super) fn choose(
    people: &[i64],
    addresses: &Addresses,
    accounts: &Accounts,
    account_channels: &[Vec<Channel>],
    message: bool,
    without: &[Address],
) -> (Vec<Address>, usize) {
    let mut chosen: Vec<Address> = Vec::new();
    let add = |chosen: &mut Vec<Address>, found: Vec<Address>| {
        for address in found {
            if !chosen.contains(&address) {
                chosen.push(address);
            }
        }
    };
    // If no person is known, the alert counts as one person without an address.
    let mut lacking = vec![people.is_empty(); account_channels.len()];
    for user_id in people {
        if message {
            let name = user_id.to_string();
            add(&mut chosen, vec![Address { channel: Channel::Message, name }]);
        }
        for (way, lacking) in account_channels.iter().zip(&mut lacking) {
            let own = first_known(addresses.get(user_id), way, without);
            *lacking |= own.is_empty();
            add(&mut chosen, own);
        }
    }
    for (way, lacking) in account_channels.iter().zip(lacking) {
        let told = chosen.iter().any(|address| way.contains(&address.channel));
        let everybody = match lacking {
            true => first_known(addresses.get(&EVERYBODY), way, without),
            false => Vec::new(),
        };
        if !told && everybody.is_empty() {
            let of = |channel: &Channel| accounts.default_address(*channel);
            let default = way.iter().filter_map(of).find(|one| !without.contains(one));
            add(&mut chosen, default.into_iter().collect());
        }
        add(&mut chosen, everybody);
    }
    let cut = chosen.len().saturating_sub(RECIPIENTS_MAX);
    chosen.truncate(RECIPIENTS_MAX);
    chosen.sort_unstable();
    (chosen, cut)
}

/// Returns the recipient of a chosen address: with the first of these people who has the address.
pub(super) fn recipient(address: Address, people: &[i64], addresses: &Addresses) -> Recipient {
    let has = |user: &i64| match address.channel {
        Channel::Message => address.name == user.to_string(),
        _ => addresses.get(user).is_some_and(|own| own.contains(&address)),
    };
    let user_id = people.iter().chain([&EVERYBODY]).copied().find(has).unwrap_or(DEFAULT_USER);
    Recipient { address, user_id }
}

/// Returns a user's addresses of the first kind that has any.
fn first_known(
    addresses: Option<&Arc<[Address]>>,
    way: &[Channel],
    without: &[Address],
) -> Vec<Address> {
    let of = |kind: &Channel| -> Vec<Address> {
        let all = addresses.into_iter().flat_map(|addresses| addresses.iter());
        let fits = |address: &&Address| address.channel == *kind && !without.contains(address);
        all.filter(fits).cloned().collect()
    };
    way.iter().map(of).find(|found| !found.is_empty()).unwrap_or_default()
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
