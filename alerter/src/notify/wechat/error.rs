//! A failed call, and what the platforms' error codes ask for, by remedy.
//!
//! Pure. What a remedy leads to is for [`crate::notify::sender`] to decide.

/// A call that did not do what it was for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What to do about it.
    pub remedy: Remedy,
    /// The platform's code, where it answered.
    pub errcode: Option<i64>,
    /// Whether the message may have reached the person all the same: it was on its way, and no
    /// answer says what became of it.
    pub uncertain: bool,
    /// What happened; holds no secret and no address with one.
    pub message: String,
}

/// What to do about a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Try again later.
    Retry,
    /// Try again a few times, then take it for [`Self::ConfigError`].
    RetryThenConfigError,
    /// Try again a few times, then take it for [`Self::Permanent`].
    RetryThenPermanent,
    /// Ask for another token and try once more.
    RefreshToken,
    /// Try again once a limit is reset.
    WaitUntil(Reset),
    /// This recipient cannot be told by this account any more.
    DropRecipient,
    /// Nothing of this account goes out until an operator changes something.
    ConfigError,
    /// This message will never be taken.
    Permanent,
}

/// When a limit is reset, and whom it concerns until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// The account, within a minute.
    AccountMinute,
    /// The account, at the next day.
    AccountDay,
    /// One recipient, after a pause.
    Recipient,
}

/// Whose code it is: the same number can mean another thing to the other platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The official accounts'.
    Official,
    /// WeCom's.
    Wecom,
}

/// Which call a code answers: the same code can mean another thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Asking for a token with the account's secret.
    Token,
    /// Anything with a token.
    Send,
}

/// A code as a metric's label: those that are not documented are one, or whoever answers in the
/// platform's place could fill the metrics' memory.
pub fn label(errcode: i64) -> String {
    let asked = [Step::Send, Step::Token];
    let known = asked.into_iter().any(|step| {
        [Kind::Official, Kind::Wecom]
            .into_iter()
            .any(|kind| Remedy::of(kind, step, errcode) != Remedy::RetryThenPermanent)
    });
    if known { errcode.to_string() } else { "other".to_owned() }
}

impl Remedy {
    /// The remedy for `errcode` in answer to `step`.
    pub fn of(kind: Kind, step: Step, errcode: i64) -> Self {
        match (errcode, step) {
            // System busy; bursts cause it.
            (-1, _) => Self::Retry,
            // Without a token these say that the secret is wrong.
            (40001 | 40014 | 41001 | 42001, Step::Send) => Self::RefreshToken,
            (40001 | 40014 | 41001 | 42001, Step::Token) => Self::ConfigError,
            // Account or company unknown, its name or secret missing.
            (40013 | 41002 | 41004, _) => Self::ConfigError,
            // Not JSON, or a field missing.
            (47001, _) => Self::Permanent,
            _ => match kind {
                Kind::Official => Self::of_official(errcode),
                Kind::Wecom => Self::of_wecom(errcode),
            },
        }
    }

    fn of_official(errcode: i64) -> Self {
        match errcode {
            // Secret wrong, caller's address not allowed, account not allowed to.
            40125 | 40164 | 45035 | 48001 | 50001 | 50002 | 61004 => Self::ConfigError,
            // Template unknown; also seen for a moment in bursts.
            40037 => Self::RetryThenConfigError,
            // Openid wrong, no follower, refused.
            40003 | 43004 | 43101 => Self::DropRecipient,
            // Told too often.
            43117 => Self::WaitUntil(Reset::Recipient),
            45011 => Self::WaitUntil(Reset::AccountMinute),
            45009 => Self::WaitUntil(Reset::AccountDay),
            // A field too long; windows and limits of other kinds of message.
            45015 | 45047 | 47003 => Self::Permanent,
            _ => Self::RetryThenPermanent,
        }
    }

    fn of_wecom(errcode: i64) -> Self {
        match errcode {
            // Application unknown, missing, disabled or not ours; secret wrong.
            40056 | 40091 | 41011 | 41024 | 50003 | 301002 | 2000002 => Self::ConfigError,
            // Caller's address not allowed, account not allowed to.
            48001 | 48002 | 48004 | 60020 => Self::ConfigError,
            // User id wrong, unknown, outside of what the application may see, never joined.
            40003 | 40031 | 43004 | 46004 | 50002 | 60011 | 60111 | 81013 | 82001 => {
                Self::DropRecipient
            }
            // Here a frequency, not the day's quota: it holds for a minute.
            45009 => Self::WaitUntil(Reset::AccountMinute),
            // Too many calls at once.
            45033 => Self::Retry,
            // Kind of message or field wrong, empty or too long.
            40008 | 40033 | 40035 | 40058 | 40063 | 44004 | 45002 => Self::Permanent,
            _ => Self::RetryThenPermanent,
        }
    }
}

#[cfg(test)]
mod tests {
    use Kind::{Official, Wecom};
    use Remedy::*;

    use super::*;

    #[test]
    fn a_label_is_a_documented_code_or_other() {
        assert_eq!(label(40001), "40001");
        assert_eq!(label(81013), "81013");
        assert_eq!(label(1_234_567), "other");
    }

    /// Code, official account's remedy, WeCom's remedy.
    const SENT: [(i64, Remedy, Remedy); 31] = [
        (-1, Retry, Retry),
        (40001, RefreshToken, RefreshToken),
        (40014, RefreshToken, RefreshToken),
        (42001, RefreshToken, RefreshToken),
        (41001, RefreshToken, RefreshToken),
        (40013, ConfigError, ConfigError),
        (40056, RetryThenPermanent, ConfigError),
        (301002, RetryThenPermanent, ConfigError),
        (40164, ConfigError, RetryThenPermanent),
        (45035, ConfigError, RetryThenPermanent),
        (61004, ConfigError, RetryThenPermanent),
        (60020, RetryThenPermanent, ConfigError),
        (48001, ConfigError, ConfigError),
        (48002, RetryThenPermanent, ConfigError),
        (50001, ConfigError, RetryThenPermanent),
        (50002, ConfigError, DropRecipient),
        (40003, DropRecipient, DropRecipient),
        (43004, DropRecipient, DropRecipient),
        (43101, DropRecipient, RetryThenPermanent),
        (60111, RetryThenPermanent, DropRecipient),
        (81013, RetryThenPermanent, DropRecipient),
        (40037, RetryThenConfigError, RetryThenPermanent),
        (47001, Permanent, Permanent),
        (47003, Permanent, RetryThenPermanent),
        (45002, RetryThenPermanent, Permanent),
        (43117, WaitUntil(Reset::Recipient), RetryThenPermanent),
        (45009, WaitUntil(Reset::AccountDay), WaitUntil(Reset::AccountMinute)),
        (45011, WaitUntil(Reset::AccountMinute), RetryThenPermanent),
        (45033, RetryThenPermanent, Retry),
        (45047, Permanent, RetryThenPermanent),
        (99999, RetryThenPermanent, RetryThenPermanent),
    ];

    #[test]
    fn every_known_code_of_a_send_has_its_remedy_on_each_platform() {
        for (errcode, official, wecom) in SENT {
            assert_eq!(Remedy::of(Official, Step::Send, errcode), official, "{errcode}");
            assert_eq!(Remedy::of(Wecom, Step::Send, errcode), wecom, "{errcode}");
        }
    }

    #[test]
    fn a_wrong_secret_or_account_is_no_old_token() {
        for kind in [Official, Wecom] {
            for errcode in [40001, 40013, 40014, 41002, 41004, 42001] {
                assert_eq!(Remedy::of(kind, Step::Token, errcode), ConfigError, "{errcode}");
            }
            assert_eq!(Remedy::of(kind, Step::Token, -1), Retry);
        }
        assert_eq!(Remedy::of(Wecom, Step::Token, 45009), WaitUntil(Reset::AccountMinute));
        assert_eq!(Remedy::of(Wecom, Step::Token, 60020), ConfigError);
    }
}
