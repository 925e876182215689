//! Decides when a producer that has failed for good is replaced, and when this is given up. Pure.

use std::time::{Duration, Instant};

/// Shortest time between two new producers.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(10);

/// Most new producers in a row without one acknowledged record.
pub(super) const RENEWALS_MAX: u32 = 6;

/// The new producers so far.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    /// New producers since the last acknowledged record.
    in_vain: u32,
    last: Option<Instant>,
    /// Records that were acknowledged before the last renewal.
    acknowledged: u64,
}

impl Renewals {
    /// Returns the wait before the next producer, if `acknowledged` records have been acknowledged
    /// so far. `None` if further producers would be in vain, too.
    pub(super) fn next(&mut self, now: Instant, acknowledged: u64) -> Option<Duration> {
        if acknowledged > self.acknowledged {
            (self.acknowledged, self.in_vain) = (acknowledged, 0);
        }
        if self.in_vain == RENEWALS_MAX {
            return None;
        }
        let at = self.last.map_or(now, |last| now.max(last + RENEWAL_INTERVAL));
        (self.last, self.in_vain) = (Some(at), self.in_vain + 1);
        Some(at.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_producer_comes_at_once_then_every_ten_seconds_and_not_for_ever() {
        let start = Instant::now();
        let mut renewals = Renewals::default();
        let mut next = |second: u64, acknowledged: u64| {
            let wait = renewals.next(start + Duration::from_secs(second), acknowledged);
            wait.map(|wait| wait.as_secs())
        };
        assert_eq!(next(0, 0), Some(0), "the first comes at once");
        assert_eq!(next(1, 0), Some(9));
        assert_eq!(next(50, 0), Some(0), "the last one was long ago");
        assert_eq!(next(51, 7), Some(9), "the last one worked");
        for second in [61, 71, 81, 91, 101] {
            assert_eq!(next(second, 7), Some(9), "at {second} s");
        }
        assert_eq!(next(111, 7), None, "six in a row without success");
    }
}
