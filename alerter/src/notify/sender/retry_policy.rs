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

/// Pause of an account whose day is used up, before one message tries it. The platform resets days
/// at times of its own, and operators may have the quota raised.
const DAY_WAIT: Duration = Duration::from_secs(600);

/// Wait of a recipient who got too many messages.
const RECIPIENT_WAIT: Duration = Duration::from_secs(600);

/// Wait after which the platform no longer takes a message for a duplicate.
const DUPLICATE_WAIT: Duration = Duration::from_secs(61);

/// Attempts after which an unknown template is treated as missing. A burst of messages can make a
/// template unknown for a moment.
const TEMPLATE_ATTEMPTS_MAX: u32 = 3;

/// Attempts after which an errcode that may be transient is treated as permanent.
const UNCERTAIN_ATTEMPTS_MAX: u32 = 4;

/// What follows from a failure.
#[derive(Debug, PartialEq)]
pub struct FailureAction {
    /// The settlement of the notification.
    pub settlement: Settlement,
    /// Pause of the whole account.
    pub pause: Option<Duration>,
    /// Whether only an operator can fix the account.
    pub operator: bool,
}

impl FailureAction {
    /// Returns what the failure shows about the account. `answered`: the platform gave an errcode.
    pub fn health(&self, remedy: ErrcodeRemedy, answered: bool) -> AccountHealth {
        match self.pause {
            Some(wait) if self.operator => AccountHealth::Broken(wait),
            Some(wait) => AccountHealth::Limited(wait),
            None if !answered => AccountHealth::Uncertain,
            // A new token that fails at once, or a template unknown for now, is uncertain.
            None => match remedy {
                ErrcodeRemedy::RefreshToken | ErrcodeRemedy::RetryThenConfigError => {
                    AccountHealth::Uncertain
                }
                _ => AccountHealth::Works,
            },
        }
    }
}

/// Decides after the failure of attempt number `attempts`.
pub fn failure_action(remedy: ErrcodeRemedy, attempts: u32, random: f64) -> FailureAction {
    let only = |settlement| FailureAction { settlement, pause: None, operator: false };
    let all = |wait, operator| FailureAction {
        settlement: Settlement::Retry(wait),
        pause: Some(wait),
        operator,
    };
    let retry = || {
        let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
        let mut wait = RETRY_MIN;
        // After a few doublings every wait is the longest.
        (0..attempts.min(16)).for_each(|_| wait = backoff.next(random));
        only(Settlement::Retry(wait))
    };
    match remedy {
        // Retry without an end: the row stays, its age is exported, and operators can drop it.
        ErrcodeRemedy::Retry | ErrcodeRemedy::RefreshToken => retry(),
        ErrcodeRemedy::RetryThenConfigError if attempts < TEMPLATE_ATTEMPTS_MAX => retry(),
        ErrcodeRemedy::RetryThenPermanent if attempts < UNCERTAIN_ATTEMPTS_MAX => retry(),
        ErrcodeRemedy::RetryThenConfigError | ErrcodeRemedy::ConfigError => all(FIX_WAIT, true),
        ErrcodeRemedy::RetryThenPermanent | ErrcodeRemedy::Permanent => only(Settlement::Failed),
        ErrcodeRemedy::Plainer => only(Settlement::Moved),
        ErrcodeRemedy::WaitUntil(Reset::AccountMinute) => all(Duration::from_secs(60), false),
        ErrcodeRemedy::WaitUntil(Reset::AccountDay) => all(DAY_WAIT, true),
        ErrcodeRemedy::WaitUntil(Reset::Recipient) => only(Settlement::Retry(RECIPIENT_WAIT)),
        ErrcodeRemedy::WaitUntil(Reset::Duplicate) => only(Settlement::Retry(DUPLICATE_WAIT)),
        ErrcodeRemedy::DropRecipient => only(Settlement::Refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_remedy_has_its_course() {
        let later = |seconds| Settlement::Retry(Duration::from_secs(seconds));
        for (remedy, attempts, settlement, pause, operator) in [
            (ErrcodeRemedy::Retry, 1, later(2), None, false),
            (ErrcodeRemedy::Retry, 3, later(8), None, false),
            (ErrcodeRemedy::Retry, 1_000, later(300), None, false),
            (ErrcodeRemedy::RefreshToken, 1, later(2), None, false),
            (ErrcodeRemedy::RetryThenConfigError, 2, later(4), None, false),
            (ErrcodeRemedy::RetryThenConfigError, 3, later(300), Some(300), true),
            (ErrcodeRemedy::RetryThenPermanent, 3, later(8), None, false),
            (ErrcodeRemedy::RetryThenPermanent, 4, Settlement::Failed, None, false),
            (ErrcodeRemedy::ConfigError, 1, later(300), Some(300), true),
            (ErrcodeRemedy::WaitUntil(Reset::AccountMinute), 1, later(60), Some(60), false),
            (ErrcodeRemedy::WaitUntil(Reset::AccountDay), 1, later(600), Some(600), true),
            (ErrcodeRemedy::WaitUntil(Reset::Recipient), 1, later(600), None, false),
            (ErrcodeRemedy::WaitUntil(Reset::Duplicate), 1, later(61), None, false),
            (ErrcodeRemedy::Plainer, 1, Settlement::Moved, None, false),
            (ErrcodeRemedy::DropRecipient, 1, Settlement::Refused, None, false),
            (ErrcodeRemedy::Permanent, 1, Settlement::Failed, None, false),
        ] {
            let expected =
                FailureAction { settlement, pause: pause.map(Duration::from_secs), operator };
            assert_eq!(failure_action(remedy, attempts, 0.0), expected, "{remedy:?} {attempts}");
        }
    }

    #[test]
    fn a_failure_tells_of_its_message_or_of_the_account() {
        let wait = Duration::from_secs;
        for (remedy, answered, health) in [
            (ErrcodeRemedy::Permanent, true, AccountHealth::Works),
            (ErrcodeRemedy::Plainer, true, AccountHealth::Works),
            (ErrcodeRemedy::DropRecipient, true, AccountHealth::Works),
            (ErrcodeRemedy::Retry, true, AccountHealth::Works),
            (ErrcodeRemedy::Retry, false, AccountHealth::Uncertain),
            (ErrcodeRemedy::RefreshToken, true, AccountHealth::Uncertain),
            (ErrcodeRemedy::RetryThenConfigError, true, AccountHealth::Uncertain),
            (ErrcodeRemedy::WaitUntil(Reset::Recipient), true, AccountHealth::Works),
            (
                ErrcodeRemedy::WaitUntil(Reset::AccountMinute),
                true,
                AccountHealth::Limited(wait(60)),
            ),
            (ErrcodeRemedy::WaitUntil(Reset::AccountDay), true, AccountHealth::Broken(DAY_WAIT)),
            (ErrcodeRemedy::ConfigError, true, AccountHealth::Broken(FIX_WAIT)),
        ] {
            let course = failure_action(remedy, 1, 0.0);
            assert_eq!(course.health(remedy, answered), health, "{remedy:?} {answered}");
        }
    }
}
