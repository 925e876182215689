//! Asks whether a notification that is due can reach anyone.
//!
//! Pure. The engine asks before it makes a step, and reverts nothing. A [`Router`] answers from
//! people, accounts and silences that were looked up before.

use jiff::tz::TimeZone;
use ljwx_reading::{DeviceSn, Ids};
use serde::{Deserialize, Serialize};

use crate::rules::Rule;
use crate::rules::index::RuleSet;

/// Age of a reading beyond which its notifications are late: 30 minutes, in milliseconds.
pub const LATE_AFTER_MS: i64 = 30 * 60 * 1000;

/// Whether a notification of event time `event_ms` is late at wall time `now_ms`.
pub fn is_late(event_ms: i64, now_ms: i64) -> bool {
    now_ms - event_ms > LATE_AFTER_MS
}

/// The reason why a notification that is due reaches no one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwedReason {
    /// A silence covers it.
    Silenced,
    /// No recipient, or no address of the recipients, is known.
    NoRecipient,
    /// The tenant has no account for the channel, or none that works.
    NoAccount,
    /// The platform refuses all known addresses.
    Refused,
    /// The reading is too old to report its breach as if it were now.
    Late,
}

impl OwedReason {
    /// All reasons.
    pub const ALL: [Self; 5] =
        [Self::Silenced, Self::NoRecipient, Self::NoAccount, Self::Refused, Self::Late];

    /// Returns the word for tables and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Silenced => "silenced",
            Self::NoRecipient => "no_recipient",
            Self::NoAccount => "no_account",
            Self::Refused => "refused",
            Self::Late => "late",
        }
    }

    /// Whether recipients were looked for, and none can be notified.
    pub fn is_unreachable(self) -> bool {
        matches!(self, Self::NoRecipient | Self::NoAccount | Self::Refused)
    }
}

/// Whom a notification that is due reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routed {
    /// At least one person can be notified.
    Somebody,
    /// No one can be notified now. The notification is owed.
    Nobody(OwedReason),
    /// The rule names no channel that reaches people. Nothing is owed.
    NoChannel,
}

/// Answers whether notifications can reach anyone.
pub trait Router {
    /// Returns whom a notification about a device, with the user, organisation and tenant of its
    /// episode, can reach now by the channels of a rule that names people. `None`: the people of these
    /// ids must be looked up first.
    fn route(&self, ids: Ids, device_sn: &DeviceSn, rule: &Rule) -> Option<Routed>;
}

/// An answer that is the same for every notification.
impl Router for Routed {
    fn route(&self, _: Ids, _: &DeviceSn, _: &Rule) -> Option<Routed> {
        Some(*self)
    }
}

/// What decides about a device's episodes, beside its readings.
#[derive(Clone, Copy)]
pub struct Basis<'a> {
    /// The active rules.
    pub rules: &'a RuleSet,
    /// The zone in which missing data is dated.
    pub zone: &'a TimeZone,
    /// Answers whom a notification reaches.
    pub router: &'a dyn Router,
    /// Wall clock, in milliseconds.
    pub now_ms: i64,
}
