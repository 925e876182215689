//! The content of an operator event.

use jiff::Timestamp;
use serde::Serialize;

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
    /// An event of one case at `at`, which concerns neither an account nor a tenant.
    pub fn about(event: &'static str, text: String, at: Timestamp) -> Self {
        let (account, errcode, customer_id) = (None, None, None);
        Self { event, account, errcode, customer_id, count: 1, since: at, text, at }
    }
}
