//! Decides after a failed send: retry, pause the account, or give up.
//!
//! Pure: times and randomness come as arguments. If an account does not answer at all,
//! [`crate::notify::limits::breaker`] decides how long it is paused.

use std::time::Duration;

use ljwx_service::backoff::Backoff;

use crate::notify::limits::breaker::Health;
use crate::notify::outbox::Fate;
use crate::notify::wechat::error::{Remedy, Reset};

/// First wait before another attempt.
pub const RETRY_MIN: Duration = Duration::from_secs(2);

/// Longest wait before another attempt.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// Pause of an account that an operator has to fix.
pub const MEND_WAIT: Duration = Duration::from_secs(300);

/// Wait of a recipient who got too many messages.
const RECIPIENT_WAIT: Duration = Duration::from_secs(600);

/// Attempts after which an errcode that may be transient is treated as permanent.
const DOUBTFUL_ATTEMPTS_MAX: u32 = 4;

/// What follows from a failure.
#[derive(Debug, PartialEq)]
pub struct Course {
    /// The settlement of the notification.
    pub fate: Fate,
    /// Pause of the whole account.
    pub rest: Option<Duration>,
    /// Whether only an operator can fix the account.
    pub operator: bool,
}

impl Course {
    /// Returns what the failure shows about the account. `answered`: the platform gave an errcode.
    pub fn health(&self, remedy: Remedy, answered: bool) -> Health {
        match self.rest {
            Some(wait) if self.operator => Health::Broken(wait),
            Some(wait) => Health::Limited(wait),
            None if !answered => Health::Doubtful,
            // A new token that fails at once, or a template unknown for now, is uncertain.
            None => match remedy {
                Remedy::RefreshToken | Remedy::RetryThenConfigError => Health::Doubtful,
                _ => Health::Works,
            },
        }
    }
}

/// Decides after the failure of attempt number `attempts`.
pub fn course(remedy: Remedy, attempts: u32, until_tomorrow: Duration, random: f64) -> Course {
    let only = |fate| Course { fate, rest: None, operator: false };
    let all = |wait, operator| Course { fate: Fate::Later(wait), rest: Some(wait), operator };
    let retry = || {
        let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
        let mut wait = RETRY_MIN;
        // After a few doublings every wait is the longest.
        (0..attempts.min(16)).for_each(|_| wait = backoff.next(random));
        only(Fate::Later(wait))
    };
    let doubtful = attempts < DOUBTFUL_ATTEMPTS_MAX;
    match remedy {
        // Retry without an end: the row stays, its age is exported, and operators can drop it.
        Remedy::Retry | Remedy::RefreshToken => retry(),
        Remedy::RetryThenConfigError | Remedy::RetryThenPermanent if doubtful => retry(),
        Remedy::RetryThenConfigError | Remedy::ConfigError => all(MEND_WAIT, true),
        Remedy::RetryThenPermanent | Remedy::Permanent => only(Fate::Failed),
        Remedy::WaitUntil(Reset::AccountMinute) => all(Duration::from_secs(60), false),
        // Notify operators: the account sends nothing until then, unless an operator has the quota
        // raised.
        Remedy::WaitUntil(Reset::AccountDay) => all(until_tomorrow, true),
        Remedy::WaitUntil(Reset::Recipient) => only(Fate::Later(RECIPIENT_WAIT)),
        Remedy::DropRecipient => only(Fate::Dropped),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOMORROW: Duration = Duration::from_secs(7_000);

    #[test]
    fn every_remedy_has_its_course() {
        let later = |seconds| Fate::Later(Duration::from_secs(seconds));
        for (remedy, attempts, fate, rest, operator) in [
            (Remedy::Retry, 1, later(2), None, false),
            (Remedy::Retry, 3, later(8), None, false),
            (Remedy::Retry, 1_000, later(300), None, false),
            (Remedy::RefreshToken, 1, later(2), None, false),
            (Remedy::RetryThenConfigError, 3, later(8), None, false),
            (Remedy::RetryThenConfigError, 4, later(300), Some(300), true),
            (Remedy::RetryThenPermanent, 3, later(8), None, false),
            (Remedy::RetryThenPermanent, 4, Fate::Failed, None, false),
            (Remedy::ConfigError, 1, later(300), Some(300), true),
            (Remedy::WaitUntil(Reset::AccountMinute), 1, later(60), Some(60), false),
            (Remedy::WaitUntil(Reset::AccountDay), 1, later(7_000), Some(7_000), true),
            (Remedy::WaitUntil(Reset::Recipient), 1, later(600), None, false),
            (Remedy::DropRecipient, 1, Fate::Dropped, None, false),
            (Remedy::Permanent, 1, Fate::Failed, None, false),
        ] {
            let expected = Course { fate, rest: rest.map(Duration::from_secs), operator };
            assert_eq!(course(remedy, attempts, TOMORROW, 0.0), expected, "{remedy:?} {attempts}");
        }
    }

    #[test]
    fn a_failure_tells_of_its_message_or_of_the_account() {
        let wait = Duration::from_secs;
        for (remedy, answered, health) in [
            (Remedy::Permanent, true, Health::Works),
            (Remedy::DropRecipient, true, Health::Works),
            (Remedy::Retry, true, Health::Works),
            (Remedy::Retry, false, Health::Doubtful),
            (Remedy::RefreshToken, true, Health::Doubtful),
            (Remedy::RetryThenConfigError, true, Health::Doubtful),
            (Remedy::WaitUntil(Reset::Recipient), true, Health::Works),
            (Remedy::WaitUntil(Reset::AccountMinute), true, Health::Limited(wait(60))),
            (Remedy::WaitUntil(Reset::AccountDay), true, Health::Broken(TOMORROW)),
            (Remedy::ConfigError, true, Health::Broken(MEND_WAIT)),
        ] {
            let course = course(remedy, 1, TOMORROW, 0.0);
            assert_eq!(course.health(remedy, answered), health, "{remedy:?} {answered}");
        }
    }
}
