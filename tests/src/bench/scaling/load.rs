//! The load of the drill: its steps as shares of the limit, and the lag that they may leave; pure.
//! Sending belongs to [`super::sender`].

use std::time::Duration;

/// The steps: a share of the limit, and its time before it is divided like the policy's periods. The
/// load rises beyond the limit, falls to a quiet hour's, and then everything is to be stored.
const STEPS: [(f64, Duration); 6] = [
    (0.25, Duration::from_secs(400)),
    (0.5, Duration::from_secs(400)),
    (0.75, Duration::from_secs(400)),
    (1.0, Duration::from_secs(400)),
    (1.3, Duration::from_secs(400)),
    (QUIET, Duration::from_secs(600)),
];

/// The share of the last step.
const QUIET: f64 = 0.1;

/// The least share of the limit that is stored while the load is sent. The limit is measured while
/// nothing is sent; sender, Kafka and further replicas take their part of the same cores.
const STORED_MIN: f64 = 0.4;

/// Seconds of the load that may wait while partitions move: the old owner of a partition has 10 s to
/// write what it has read.
const MOVING_MAX: f64 = 10.0;

/// Readings a second over time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Readings a second that the least number of replicas stores.
    limit: f64,
    factor: u32,
}

impl Load {
    /// Creates the load from the limit and the factor by which periods are divided.
    pub(super) fn new(limit: f64, factor: u32) -> Self {
        Self { limit, factor }
    }

    /// Returns the steps, each with its rate and its length in seconds.
    fn steps(self) -> impl Iterator<Item = (f64, f64)> {
        let seconds = move |length: Duration| length.as_secs_f64() / f64::from(self.factor);
        STEPS.into_iter().map(move |(share, length)| (share * self.limit, seconds(length)))
    }

    /// Returns the number of readings that are due at this time after the start.
    pub(super) fn due(self, at: Duration) -> usize {
        let mut left = at.as_secs_f64();
        let mut due = 0.0;
        for (rate, seconds) in self.steps() {
            due += rate * left.clamp(0.0, seconds);
            left -= seconds;
        }
        due as usize
    }

    /// Returns the time at which the load falls.
    pub(super) fn fall(self) -> Duration {
        let seconds = self.steps().map(|(_, seconds)| seconds);
        Duration::from_secs_f64(seconds.take(STEPS.len() - 1).sum())
    }

    /// Returns the time at which the load ends.
    pub(super) fn end(self) -> Duration {
        Duration::from_secs_f64(self.steps().map(|(_, seconds)| seconds).sum())
    }

    /// Returns the greatest rate.
    pub(super) fn peak(self) -> f64 {
        self.steps().map(|(rate, _)| rate).fold(0.0, f64::max)
    }

    /// Returns the greatest lag that is accepted: what the steps send beyond the least rate of storing,
    /// and what comes while partitions move. A group that stores less would fall behind ever further
    /// under a load that it is to bear.
    pub(super) fn lag_max(self) -> f64 {
        let stored = STORED_MIN * self.limit;
        let beyond: f64 =
            self.steps().map(|(rate, seconds)| (rate - stored).max(0.0) * seconds).sum();
        beyond + self.peak() * MOVING_MAX
    }

    /// Returns the longest time from the fall until the greatest accepted lag is stored at the least
    /// rate.
    pub(super) fn recovery_max(self) -> Duration {
        Duration::from_secs_f64(self.lag_max() / ((STORED_MIN - QUIET) * self.limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_rises_beyond_the_limit_falls_and_ends() {
        let load = Load::new(1000.0, 10);
        for (second, due) in [
            (0, 0),
            (40, 10_000),
            (60, 20_000),
            (200, 152_000),
            (210, 153_000),
            (260, 158_000),
            (900, 158_000),
        ] {
            let at = load.due(Duration::from_secs(second)) as i64;
            assert!((at - due).abs() <= 1, "{at} readings at {second} s, not {due}");
        }
        assert_eq!(load.fall(), Duration::from_secs(200));
        assert_eq!(load.end(), Duration::from_secs(260));
        assert_eq!(load.peak().round() as i64, 1300);
    }

    #[test]
    fn the_accepted_lag_is_below_that_of_a_group_which_stores_nothing() {
        let load = Load::new(1000.0, 10);
        // (0.1 + 0.35 + 0.6 + 0.9) × 40 s and 1.3 × 10 s of the limit.
        assert_eq!(load.lag_max().round() as i64, 91_000);
        assert!(load.lag_max() < load.due(load.fall()) as f64 * 2.0 / 3.0);
        assert!((load.recovery_max().as_secs_f64() - 303.33).abs() < 0.01);
    }
}
