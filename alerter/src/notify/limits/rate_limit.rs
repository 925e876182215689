//! Limits messages: through an account in a second, and to a recipient in a minute.
//!
//! Pure: time comes as an argument. The messages that other replicas sent come from the outbox.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::notify::outbox::RecentSends;

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

/// The messages that recipients may still get by the rows that were claimed together.
#[derive(Debug)]
pub struct RecipientBudget {
    per_minute: i64,
    recent: Mutex<HashMap<RecipientKey, RecentSends>>,
}

impl RecipientBudget {
    /// The budget of claimed rows. `recent` holds the messages of the last minute.
    pub fn new(per_minute: u32, recent: HashMap<RecipientKey, RecentSends>) -> Self {
        Self { per_minute: i64::from(per_minute), recent: Mutex::new(recent) }
    }

    /// Returns how long a recipient has to wait for the next message, which is critical or not.
    /// `None`: no wait.
    pub fn wait(&self, recipient: &RecipientKey, critical: bool) -> Option<Duration> {
        let critical_limit = self.per_minute.max(CRITICAL_PER_MINUTE);
        let limit = if critical { critical_limit } else { self.per_minute };
        let recent = self.recent().get(recipient).copied();
        let recent = recent.filter(|recent| recent.sent >= limit)?;
        let frees_in = u64::try_from(recent.frees_in_ms).unwrap_or_default();
        Some(match frees_in {
            0 => UNDER_WAY_WAIT,
            frees_in => Duration::from_millis(frees_in).max(WAIT_MIN),
        })
    }

    /// Counts a message that is being sent.
    pub fn take(&self, recipient: &RecipientKey) {
        self.recent().entry(recipient.clone()).or_default().sent += 1;
    }

    fn recent(&self) -> MutexGuard<'_, HashMap<RecipientKey, RecentSends>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn a_recipient_gets_what_is_left_of_the_minute_and_others_are_not_concerned() {
        let nurse = (7, "openid:o1".to_owned());
        let namesake = (8, "openid:o1".to_owned());
        let sent = HashMap::from([(nurse.clone(), RecentSends { sent: 18, frees_in_ms: 42_000 })]);
        let budget = RecipientBudget::new(20, sent);
        for _ in 0..2 {
            assert_eq!(budget.wait(&nurse, false), None);
            budget.take(&nurse);
        }
        assert_eq!(budget.wait(&nurse, false), Some(Duration::from_secs(42)));
        assert_eq!(budget.wait(&namesake, false), None);
        let small = RecipientBudget::new(1, HashMap::new());
        small.take(&namesake);
        assert_eq!(small.wait(&namesake, false), Some(UNDER_WAY_WAIT));
    }

    #[test]
    fn what_is_critical_waits_only_for_what_the_platform_would_lose() {
        let nurse = (7, "wecom:m1".to_owned());
        for (per_minute, critical) in [(20, 28), (1, 28), (1_000, 1_000)] {
            let budget = RecipientBudget::new(per_minute, HashMap::new());
            let mut sent = 0;
            while budget.wait(&nurse, true).is_none() {
                let waits = budget.wait(&nurse, false).is_some();
                assert_eq!(waits, sent >= i64::from(per_minute), "{per_minute}: {sent}");
                budget.take(&nurse);
                sent += 1;
            }
            assert_eq!(sent, critical, "{per_minute}: both count");
        }
    }
}
