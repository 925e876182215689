//! Sums counts over the last seconds. Pure.

/// Seconds that a sum covers, the present one included.
pub(super) const WINDOW_SECONDS: u64 = 10;

/// A sum over the last [`WINDOW_SECONDS`].
#[derive(Debug, Default)]
pub(super) struct RecentSum {
    /// The sum of each second, at the second modulo the window.
    seconds: [u64; WINDOW_SECONDS as usize],
    newest: u64,
}

impl RecentSum {
    /// Adds `count` in this second.
    pub(super) fn add(&mut self, second: u64, count: u64) {
        self.forget_before(second);
        self.seconds[(second % WINDOW_SECONDS) as usize] += count;
    }

    /// Returns the sum in this second.
    pub(super) fn sum(&mut self, second: u64) -> u64 {
        self.forget_before(second);
        self.seconds.iter().sum()
    }

    fn forget_before(&mut self, second: u64) {
        let first_new = (self.newest + 1).max(second.saturating_sub(WINDOW_SECONDS - 1));
        for new in first_new..=second {
            self.seconds[(new % WINDOW_SECONDS) as usize] = 0;
        }
        self.newest = self.newest.max(second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let mut recent = RecentSum::default();
        for (second, count, sum) in
            [(0, 5, 5), (1, 2, 7), (9, 1, 8), (10, 0, 3), (11, 0, 1), (25, 4, 4), (1_000, 0, 0)]
        {
            recent.add(second, count);
            assert_eq!(recent.sum(second), sum, "in second {second}");
        }
    }
}
