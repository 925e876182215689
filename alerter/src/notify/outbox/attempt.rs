//! The outcome of an attempt, and the settlement of its notification.
//!
//! Pure. [`crate::notify::sender`] decides the settlement, and `settle` stores it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

/// The settlement of a claimed notification.
#[derive(Debug, Clone, PartialEq)]
pub enum Settlement {
    /// The platform accepted the notification.
    Sent,
    /// The notification is retried after this time.
    Retry(Duration),
    /// The notification is not to be sent any more.
    Dropped,
    /// The notification can never be sent.
    Failed,
    /// The platform rejected the recipient for good. The notification goes to another address.
    Refused,
    /// The account cannot send the notification. The notification goes to the person's address at
    /// another account.
    Moved,
}

impl Settlement {
    /// The state's word in the outbox.
    pub(super) fn state(&self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Retry(_) => "pending",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Moved => "moved",
        }
    }

    /// Whether the settlement is final.
    pub(super) fn is_final(&self) -> bool {
        !matches!(self, Self::Retry(_))
    }
}

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The settlement of the notification.
    pub settlement: Settlement,
    /// Whether a platform was called.
    pub requested: bool,
    /// Whether the message of this attempt may have arrived without an answer. If no platform was
    /// called, an earlier uncertainty stays.
    pub uncertain: bool,
    /// The platform's errcode.
    pub errcode: Option<i64>,
    /// The reason why the notification was not sent. If no platform was called, the reason is a
    /// fixed word.
    pub reason: Option<Cow<'static, str>>,
    /// Fields that the message had in their plain form.
    pub plain_fields: BTreeSet<String>,
}

impl Attempt {
    /// The platform accepted the notification.
    pub fn sent(errcode: Option<i64>) -> Self {
        Self {
            settlement: Settlement::Sent,
            requested: true,
            uncertain: false,
            errcode,
            reason: None,
            plain_fields: BTreeSet::new(),
        }
    }

    /// No platform was called. The reason is a fixed word.
    pub fn not_sent(settlement: Settlement, reason: &'static str) -> Self {
        let reason = Some(reason.into());
        Self { settlement, requested: false, reason, ..Self::sent(None) }
    }

    /// No platform was called yet. The notification is postponed.
    pub fn later(wait: Duration, reason: &'static str) -> Self {
        Self::not_sent(Settlement::Retry(wait), reason)
    }
}
