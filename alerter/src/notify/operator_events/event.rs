//! The content of an operator event.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::notify::limits::breaker::AccountChange;
use crate::notify::wechat::error::Failure;

/// An operator event. It names no patient and holds no value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperatorEvent {
    /// The event's word, such as `wechat_broken`.
    pub event: &'static str,
    /// The account's public name, if the event concerns an account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The platform's errcode, if it answered with an errcode.
    pub errcode: Option<i64>,
    /// The tenant, if the event concerns one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<i64>,
    /// Number of cases. 0: the state is over.
    pub count: u64,
    /// Start of the state that the event reports.
    pub since: Timestamp,
    /// The whole event in words.
    pub text: String,
    /// Time of the event.
    pub at: Timestamp,
}

impl OperatorEvent {
    /// An event of an account at `at`, with the failure that the account had last.
    pub fn new(
        account: &str,
        change: AccountChange,
        failure: Option<&Failure>,
        at: Timestamp,
    ) -> Self {
        let reason = failure.map_or("", |failure| failure.message.as_str());
        let (event, since, text) = match change {
            AccountChange::Opened => (
                "wechat_broken",
                at,
                format!("WeChat account {account} does not send: {reason}; its notifications wait"),
            ),
            AccountChange::StillOpen(since) => {
                let (since, lasted) = start(since, at);
                let text =
                    format!("WeChat account {account} has not sent for {lasted:#}: {reason}");
                ("wechat_broken", since, text)
            }
            AccountChange::Closed(since) => {
                let (since, lasted) = start(since, at);
                let text = format!("WeChat account {account} sends again, after {lasted:#}");
                ("wechat_works", since, text)
            }
        };
        Self {
            account: Some(account.to_owned()),
            errcode: failure.and_then(|failure| failure.errcode),
            count: u64::from(event == "wechat_broken"),
            since,
            ..Self::about(event, text, at)
        }
    }

    /// An event of one case at `at`, which concerns neither an account nor a tenant.
    pub fn about(event: &'static str, text: String, at: Timestamp) -> Self {
        let (account, errcode, customer_id) = (None, None, None);
        Self { event, account, errcode, customer_id, count: 1, since: at, text, at }
    }
}

/// Returns the time at which a state began, and how long it has lasted at `at`.
fn start(since: Instant, at: Timestamp) -> (Timestamp, SignedDuration) {
    let lasted = Instant::now().saturating_duration_since(since);
    let lasted = SignedDuration::try_from(lasted).unwrap_or_default();
    (at.checked_sub(lasted).unwrap_or(at), lasted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::notify::wechat::error::ErrcodeRemedy;

    fn failure() -> Failure {
        Failure {
            uncertain: false,
            remedy: ErrcodeRemedy::ConfigError,
            errcode: Some(40164),
            message: "/cgi-bin/stable_token: invalid ip".into(),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn an_event_says_which_account_since_when_and_why() {
        let broken =
            OperatorEvent::new("wx7", AccountChange::Opened, Some(&failure()), at(1_756_785_600));
        assert_eq!(
            serde_json::to_value(broken).unwrap(),
            json!({
                "event": "wechat_broken", "account": "wx7", "errcode": 40164, "count": 1,
                "since": "2025-09-02T04:00:00Z", "at": "2025-09-02T04:00:00Z",
                "text": "WeChat account wx7 does not send: /cgi-bin/stable_token: invalid ip; its \
                         notifications wait",
            })
        );
    }

    #[test]
    fn an_account_that_still_does_not_send_is_an_event_and_so_is_one_that_sends_again() {
        let begun = Instant::now();
        let still = AccountChange::StillOpen(begun);
        let still = OperatorEvent::new("wx7", still, Some(&failure()), at(60));
        assert_eq!((still.event, still.errcode, still.count), ("wechat_broken", Some(40164), 1));
        assert!(still.since <= at(60) && still.text.contains("invalid ip"), "{still:?}");
        let works = OperatorEvent::new("wx7", AccountChange::Closed(begun), None, at(60));
        assert_eq!((works.event, works.errcode, works.count), ("wechat_works", None, 0));
    }
}
