//! Counts the addresses that refuse an account's messages. If many refuse and none accepts, the
//! account is the cause: its visible range, or its licence.
//!
//! Pure: time comes as an argument.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Different addresses whose refusals show that the account is the cause.
const ADDRESSES_MAX: usize = 5;

/// Time within which the addresses refuse.
pub const REFUSALS_WINDOW: Duration = Duration::from_secs(10 * 60);

/// The refusals of an account's messages since one was accepted.
#[derive(Debug, Default)]
pub struct Refusals {
    recent: Vec<Refusal>,
    is_of_account: bool,
}

#[derive(Debug)]
struct Refusal {
    at: Instant,
    customer_id: i64,
    address: String,
}

impl Refusals {
    /// Adds a refusal. If the account is the cause, returns the tenants whose addresses refused
    /// lately. The account stays the cause until an address accepts.
    pub fn add(&mut self, customer_id: i64, address: &str, now: Instant) -> Option<BTreeSet<i64>> {
        let stays = |one: &Refusal| {
            now.saturating_duration_since(one.at) < REFUSALS_WINDOW && one.address != address
        };
        self.recent.retain(stays);
        self.recent.push(Refusal { at: now, customer_id, address: address.to_owned() });
        self.is_of_account |= self.recent.len() >= ADDRESSES_MAX;
        if !self.is_of_account {
            return None;
        }
        Some(self.recent.drain(..).map(|one| one.customer_id).collect())
    }

    /// Whether the account is the cause of the refusals.
    pub fn is_of_account(&self) -> bool {
        self.is_of_account
    }

    /// Forgets the refusals, because an address accepted, or because the account is another now.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds refusals of a tenant's addresses at these seconds. Returns which show the account.
    fn shown(refusals: &mut Refusals, start: Instant, of: &[(u64, i64, &str)]) -> Vec<bool> {
        let add = |(second, customer_id, address): &(u64, i64, &str)| {
            let now = start + Duration::from_secs(*second);
            refusals.add(*customer_id, address, now).is_some()
        };
        of.iter().map(add).collect()
    }

    #[test]
    fn five_addresses_within_ten_minutes_are_the_account_s_fault_and_fewer_are_their_own() {
        let start = Instant::now();
        for (of, expected) in [
            (&[(0, 7, "a"), (1, 7, "b"), (2, 7, "c"), (3, 7, "d"), (599, 7, "e")][..], true),
            (&[(0, 7, "a"), (1, 7, "b"), (2, 7, "c"), (3, 7, "d"), (600, 7, "e")], false),
            (&[(0, 7, "a"), (1, 7, "b"), (2, 7, "c"), (3, 7, "d"), (4, 7, "a")], false),
        ] {
            let shown = shown(&mut Refusals::default(), start, of);
            assert_eq!(shown, [false, false, false, false, expected], "{of:?}");
        }
        let mut refusals = Refusals::default();
        for (second, customer_id, address) in [(0, 7, "a"), (1, 8, "b"), (2, 8, "c"), (3, 7, "d")] {
            refusals.add(customer_id, address, start + Duration::from_secs(second));
        }
        assert_eq!(refusals.add(9, "e", start), Some(BTreeSet::from([7, 8, 9])));
    }

    #[test]
    fn an_address_that_accepts_clears_the_account() {
        let start = Instant::now();
        let four = [(0, 7, "a"), (1, 7, "b"), (2, 7, "c"), (3, 7, "d")];
        let mut refusals = Refusals::default();
        shown(&mut refusals, start, &four);
        refusals.clear();
        assert_eq!(shown(&mut refusals, start, &[(4, 7, "e")]), [false]);
        assert_eq!(shown(&mut refusals, start, &four), [false, false, false, true]);
        let later = [(300, 7, "a"), (10_000, 7, "f")];
        assert_eq!(shown(&mut refusals, start, &later), [true, true], "until one accepts");
        refusals.clear();
        assert_eq!(shown(&mut refusals, start, &later), [false, false]);
    }
}
