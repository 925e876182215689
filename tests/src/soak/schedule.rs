//! The schedule of a soak run: which fault begins when, and how long it lasts.
//!
//! Pure: the schedule follows from the seed alone.

use std::time::Duration;

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::fault::Fault;

/// A fault of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planned {
    /// The time from the start of the load to the fault.
    pub(super) at: Duration,
    pub(super) fault: Fault,
    /// The time from the fault's beginning to its end.
    pub(super) lasts: Duration,
    /// Chooses one of several equal services.
    pub(super) pick: u32,
}

/// Returns the faults of a run of this length. Every kind comes once before any comes again.
pub(super) fn schedule(
    seed: u64,
    length: Duration,
    every: Duration,
    only: Option<Fault>,
) -> Vec<Planned> {
    let kinds = only.map_or_else(|| Fault::value_variants().to_vec(), |only| vec![only]);
    let mut random = StdRng::seed_from_u64(seed);
    let mut deck = Vec::new();
    let mut planned = Vec::new();
    let mut at = every;
    while at + every <= length {
        if deck.is_empty() {
            deck.clone_from(&kinds);
            deck.shuffle(&mut random);
        }
        let Some(fault) = deck.pop() else { break };
        let lasts = Duration::from_secs(random.random_range(fault.seconds()));
        planned.push(Planned { at, fault, lasts, pick: random.random() });
        at += every;
    }
    planned
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(120);

    fn of(seed: u64, only: Option<Fault>) -> Vec<Planned> {
        schedule(seed, EVERY * 45, EVERY, only)
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        assert_eq!(of(7, None), of(7, None));
        assert_ne!(of(7, None), of(8, None));
    }

    #[test]
    fn every_kind_comes_twice_in_ninety_minutes_and_lasts_as_long_as_it_may() {
        let planned = of(7, None);
        assert_eq!((planned.len(), planned[0].at, planned[43].at), (44, EVERY, EVERY * 44));
        for kind in Fault::value_variants() {
            let of_kind = planned.iter().filter(|planned| planned.fault == *kind).count();
            assert_eq!(of_kind, 2, "{kind:?}");
        }
        for Planned { fault, lasts, .. } in planned {
            assert!(fault.seconds().contains(&lasts.as_secs()), "{fault:?}: {lasts:?}");
        }
    }

    #[test]
    fn one_kind_alone_fills_the_schedule() {
        let planned = of(7, Some(Fault::KillWorker));
        assert_eq!(planned.len(), 44);
        assert!(planned.iter().all(|planned| planned.fault == Fault::KillWorker));
    }
}
