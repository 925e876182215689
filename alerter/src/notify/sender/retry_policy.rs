//! Decides after a failed send: retry, pause the account, or give up.
//!
//! Pure: times and randomness come as arguments. If an account does not answer at all,
//! [`crate::notify::limits::breaker`] decides how long it is paused.

use std::time::Duration;

use ljwx_service::backoff::Backoff;

use crate::notify::limits::breaker::AccountHealth;
use crate::notify::outbox::Settlement;
use crate::notify::wechat::error::{ErrcodeRemedy, Reset};

/// First wait before another attempt.
pub const RETRY_MIN: Duration = Duration::from_secs(2);

/// Longest wait before another attempt.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// Pause of an account that an operator has to fix.
pub const FIX_WAIT: Duration = Duration::from_secs(300);

/// Pause of an account whose minute is used up.
const MINUTE_WAIT: Duration = Duration::from_secs(60);

/// Pause of an account whose day is used up, before one message tries it. The platform resets days
/// at times of its own, and operators may have the quota raised.
const DAY_WAIT: Duration = Duration::from_secs(600);

/// Wait of a recipient who got too many messages.
const RECIPIENT_WAIT: Duration = Duration::from_secs(600);

/// Wait after which the platform no longer takes a message for a duplicate.
const DUPLICATE_WAIT: Duration = Duration::from_secs(61);

/// Attempts after which an unknown template is treated as missing. A burst of messages can make a
/// template unknown for a moment.
const TEMPLATE_ATTEMPTS_MAX: i32 = 3;

/// Attempts after which an errcode that may be transient is treated as permanent.
const UNCERTAIN_ATTEMPTS_MAX: i32 = 4;

/// Returns the settlement of a notification after the failure of attempt number `attempts`, and what
/// the failure shows about the account. `answered`: the platform gave an errcode.
pub fn after_failure(
    remedy: ErrcodeRemedy,
    attempts: i32,
    answered: bool,
    random: f64,
) -> (Settlement, AccountHealth) {
    use ErrcodeRemedy::*;
    let other = if answered { AccountHealth::Works } else { AccountHealth::Uncertain };
    let retry = || {
        let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
        let mut wait = RETRY_MIN;
        // After a few doublings every wait is the longest.
        (0..attempts.min(16)).for_each(|_| wait = backoff.next(random));
        Settlement::Retry(wait)
    };
    let broken = |wait| (Settlement::Retry(wait), AccountHealth::Broken(wait));
    match remedy {
        // Retry without an end: the row stays, its age is exported, and operators can drop it.
        Retry => (retry(), other),
        // A new token that fails at once, or a template unknown for now, is uncertain.
        RefreshToken => (retry(), AccountHealth::Uncertain),
        RetryThenConfigError if attempts < TEMPLATE_ATTEMPTS_MAX => {
            (retry(), AccountHealth::Uncertain)
        }
        RetryThenConfigError | ConfigError => broken(FIX_WAIT),
        RetryThenPermanent if attempts < UNCERTAIN_ATTEMPTS_MAX => (retry(), other),
        RetryThenPermanent | Permanent => (Settlement::Failed, other),
        Plainer => (Settlement::Moved, other),
        DropRecipient => (Settlement::Refused, other),
        WaitUntil(Reset::AccountMinute) => {
            (Settlement::Retry(MINUTE_WAIT), AccountHealth::Limited(MINUTE_WAIT))
        }
        WaitUntil(Reset::AccountDay) => broken(DAY_WAIT),
        WaitUntil(Reset::Recipient) => (Settlement::Retry(RECIPIENT_WAIT), other),
        WaitUntil(Reset::Duplicate) => (Settlement::Retry(DUPLICATE_WAIT), other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_remedy_has_its_course() {
        use AccountHealth::{Uncertain, Works};
        let wait = Duration::from_secs;
        let later = |seconds| Settlement::Retry(wait(seconds));
        for (remedy, attempts, settlement, health) in [
            (ErrcodeRemedy::Retry, 1, later(2), Works),
            (ErrcodeRemedy::Retry, 3, later(8), Works),
            (ErrcodeRemedy::Retry, 1_000, later(300), Works),
            (ErrcodeRemedy::RefreshToken, 1, later(2), Uncertain),
            (ErrcodeRemedy::RetryThenConfigError, 2, later(4), Uncertain),
            (ErrcodeRemedy::RetryThenConfigError, 3, later(300), AccountHealth::Broken(FIX_WAIT)),
            (ErrcodeRemedy::RetryThenPermanent, 3, later(8), Works),
            (ErrcodeRemedy::RetryThenPermanent, 4, Settlement::Failed, Works),
            (ErrcodeRemedy::ConfigError, 1, later(300), AccountHealth::Broken(FIX_WAIT)),
            (
                ErrcodeRemedy::WaitUntil(Reset::AccountMinute),
                1,
                later(60),
                AccountHealth::Limited(MINUTE_WAIT),
            ),
            (
                ErrcodeRemedy::WaitUntil(Reset::AccountDay),
                1,
                later(600),
                AccountHealth::Broken(DAY_WAIT),
            ),
            (ErrcodeRemedy::WaitUntil(Reset::Recipient), 1, later(600), Works),
            (ErrcodeRemedy::WaitUntil(Reset::Duplicate), 1, later(61), Works),
            (ErrcodeRemedy::Plainer, 1, Settlement::Moved, Works),
            (ErrcodeRemedy::DropRecipient, 1, Settlement::Refused, Works),
            (ErrcodeRemedy::Permanent, 1, Settlement::Failed, Works),
        ] {
            let found = after_failure(remedy, attempts, true, 0.0);
            assert_eq!(found, (settlement, health), "{remedy:?} {attempts}");
        }
        let silent = after_failure(ErrcodeRemedy::Retry, 1, false, 0.0);
        assert_eq!(silent, (later(2), Uncertain), "no answer says nothing");
    }
}
