//! Limits messages: through an account in a second, and to a recipient in a minute.
//!
//! Pure: time comes as an argument. The messages that other replicas sent come from the outbox.

use std::time::{Duration, Instant};

/// A token bucket that holds the tokens of one second.
#[derive(Debug)]
pub struct TokenBucket {
    per_second: f64,
    level: f64,
    filled_at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second.max(1));
        Self { per_second, level: per_second, filled_at: now }
    }

    /// Whether a message may take a token now.
    pub fn has_token(&self, now: Instant) -> bool {
        self.level_at(now) >= 1.0
    }

    fn level_at(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        (self.level + passed * self.per_second).min(self.per_second)
    }

    /// Takes a token for one message. Without a token, returns the time until the next.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.level = self.level_at(now);
        self.filled_at = now;
        if self.level < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.level) / self.per_second));
        }
        self.level -= 1.0;
        Ok(())
    }
}

/// Identifies a recipient. The same address may be another person's at another tenant.
pub type RecipientKey = (i64, String);

/// Messages to one recipient in a minute, from which on critical ones wait as well. WeCom silently
/// loses messages beyond 30.
const CRITICAL_PER_MINUTE: i64 = 28;

/// Shortest wait of a recipient at the limit, because the clocks of two statements differ a little.
const WAIT_MIN: Duration = Duration::from_millis(500);

/// Wait of a recipient whose limit is reached by sends under way.
const UNDER_WAY_WAIT: Duration = Duration::from_secs(60);

/// The messages that a recipient was sent, or may have received, in the last minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecentSends {
    /// Number of messages.
    pub sent: i64,
    /// Time until the first of them is a minute old.
    pub frees_in_ms: i64,
}

impl RecentSends {
    /// Returns how long the recipient has to wait for the next message, which is critical or not, if
    /// it may get `per_minute`. `None`: no wait.
    pub fn wait(self, per_minute: u32, critical: bool) -> Option<Duration> {
        let per_minute = i64::from(per_minute);
        let limit = if critical { per_minute.max(CRITICAL_PER_MINUTE) } else { per_minute };
        if self.sent < limit {
            return None;
        }
        Some(match u64::try_from(self.frees_in_ms).unwrap_or_default() {
            0 => UNDER_WAY_WAIT,
            frees_in => Duration::from_millis(frees_in).max(WAIT_MIN),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_sends_so_many_at_once_and_then_at_its_pace() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(4, start);
        assert!((0..4).all(|_| bucket.take(start).is_ok()));
        assert!(!bucket.has_token(start));
        assert_eq!(bucket.take(start), Err(Duration::from_millis(250)));
        let later = start + Duration::from_millis(250);
        assert!(bucket.has_token(later));
        assert_eq!((bucket.take(later), bucket.take(later).is_err()), (Ok(()), true));
        let much_later = start + Duration::from_secs(3_600);
        assert_eq!((0..10).filter(|_| bucket.take(much_later).is_ok()).count(), 4, "no hoarding");
    }

    #[test]
    fn a_recipient_gets_what_is_left_of_the_minute() {
        let sent = |sent| RecentSends { sent, frees_in_ms: 42_000 };
        assert_eq!([18, 19].map(|count| sent(count).wait(20, false)), [None; 2]);
        assert_eq!(sent(20).wait(20, false), Some(Duration::from_secs(42)));
        let soon = RecentSends { frees_in_ms: 1, ..sent(20) };
        assert_eq!(soon.wait(20, false), Some(WAIT_MIN));
        let under_way = RecentSends { frees_in_ms: 0, ..sent(1) };
        assert_eq!(under_way.wait(1, false), Some(UNDER_WAY_WAIT));
    }

    #[test]
    fn what_is_critical_waits_only_for_what_the_platform_would_lose() {
        for (per_minute, critical) in [(20, 28), (1, 28), (1_000, 1_000)] {
            for sent in 0..=critical {
                let recent = RecentSends { sent, frees_in_ms: 0 };
                let waits =
                    [false, true].map(|critical| recent.wait(per_minute, critical).is_some());
                let expected = [sent >= i64::from(per_minute), sent >= critical];
                assert_eq!(waits, expected, "{per_minute}: {sent}");
            }
        }
    }
}
