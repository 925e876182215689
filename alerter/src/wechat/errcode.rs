//! What the platform's error codes ask for, by remedy.

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

/// Which call a code answers: the same code can mean another thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Asking for a token with the account's secret.
    Token,
    /// Anything with a token.
    Send,
}

impl Remedy {
    /// The remedy for `errcode` in answer to `step`.
    pub fn of(errcode: i64, step: Step) -> Self {
        match (errcode, step) {
            // System busy; bursts of templates cause it.
            (-1, _) => Self::Retry,
            // Without a token these say that the secret is wrong.
            (40001 | 40014 | 41001 | 42001, Step::Send) => Self::RefreshToken,
            (40001 | 40014 | 41001 | 42001, Step::Token) => Self::ConfigError,
            // Account or secret unknown, caller's address not allowed, account not allowed to.
            (40013 | 40125 | 40164 | 41002 | 41004 | 45035 | 48001 | 50001 | 50002 | 61004, _) => {
                Self::ConfigError
            }
            // Template unknown; also seen for a moment in bursts.
            (40037, _) => Self::RetryThenConfigError,
            // Openid wrong, no follower, refused.
            (40003 | 43004 | 43101, _) => Self::DropRecipient,
            // Told too often.
            (43117, _) => Self::WaitUntil(Reset::Recipient),
            (45011, _) => Self::WaitUntil(Reset::AccountMinute),
            (45009, _) => Self::WaitUntil(Reset::AccountDay),
            // Not JSON, a field missing or too long; windows and limits of other kinds of message.
            (45015 | 45047 | 47001 | 47003, _) => Self::Permanent,
            _ => Self::RetryThenPermanent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_code_has_its_remedy() {
        use Remedy::*;
        for (errcode, remedy) in [
            (-1, Retry),
            (40001, RefreshToken),
            (40014, RefreshToken),
            (42001, RefreshToken),
            (40164, ConfigError),
            (45035, ConfigError),
            (61004, ConfigError),
            (48001, ConfigError),
            (50001, ConfigError),
            (50002, ConfigError),
            (40003, DropRecipient),
            (43004, DropRecipient),
            (43101, DropRecipient),
            (40037, RetryThenConfigError),
            (47001, Permanent),
            (47003, Permanent),
            (43117, WaitUntil(Reset::Recipient)),
            (45009, WaitUntil(Reset::AccountDay)),
            (45011, WaitUntil(Reset::AccountMinute)),
            (99999, RetryThenPermanent),
        ] {
            assert_eq!(Remedy::of(errcode, Step::Send), remedy, "{errcode}");
        }
        assert_eq!(Remedy::of(40001, Step::Token), ConfigError, "a wrong secret is no old token");
    }
}
