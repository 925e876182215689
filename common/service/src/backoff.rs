//! Computes the wait before the next attempt, of this process or of a refused client.

use std::time::Duration;

/// Shortest and longest wait that a refused client is asked for, in seconds.
const RETRY_AFTER_RANGE: (f64, f64) = (1.0, 60.0);

/// Waits that double up to a maximum. A random share shortens each, so that replicas spread.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    attempts: u32,
}

impl Backoff {
    /// Creates waits from `first` to `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, attempts: 0 }
    }

    /// Returns the next wait. `random` in 0..1 shortens the wait by up to half.
    pub fn next(&mut self, random: f64) -> Duration {
        let full = self.first.saturating_mul(1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX));
        self.attempts = self.attempts.saturating_add(1);
        full.min(self.max).mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
    }

    /// Returns the number of waits since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Restarts the waits after a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// Returns the whole seconds for which a refused client should wait. `random` in 0..1 lengthens the
/// wait by up to half, so that clients spread.
pub fn retry_after(seconds: f64, random: f64) -> u64 {
    let spread = seconds * (1.0 + random.clamp(0.0, 1.0) / 2.0);
    spread.clamp(RETRY_AFTER_RANGE.0, RETRY_AFTER_RANGE.1).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_never_overflow() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<_> = (0..6).map(|_| backoff.next(0.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        for _ in 0..100 {
            assert!(backoff.next(1.0) >= Duration::from_millis(500));
        }
        backoff.reset();
        assert_eq!(backoff.next(0.0).as_millis(), 100);
    }
}
