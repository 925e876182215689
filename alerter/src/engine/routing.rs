//! Asks whether a notification that is due can reach anyone.
//!
//! Pure. The engine asks before it makes a step, and takes nothing back. A [`Router`] answers from
//! people, accounts and silences that were looked up before.

use std::cell::Cell;

use ljwx_reading::{DeviceSn, Ids};
use serde::{Deserialize, Serialize};

use crate::rules::rule::Rule;

/// Age of a reading beyond which its notifications are late: 30 minutes, in milliseconds.
pub const LATE_AFTER_MS: i64 = 30 * 60 * 1000;

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

/// The answer to a [`DueNotification`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routed {
    /// At least one person can be notified.
    Somebody,
    /// No one can be notified now. The notification is owed.
    Nobody(OwedReason),
    /// The rule names no channel that reaches people. Nothing is owed.
    NoChannel,
}

/// A notification that is due.
#[derive(Debug, Clone, Copy)]
pub struct DueNotification<'a> {
    /// User, organisation and tenant of the episode.
    pub ids: Ids,
    /// The device.
    pub device_sn: &'a DeviceSn,
    /// The rule.
    pub rule: &'a Rule,
}

/// Answers whether notifications can reach anyone.
pub trait Router {
    /// Returns whom the notification can reach now. `None`: the people of its ids must be looked up
    /// first.
    fn route(&self, due: &DueNotification<'_>) -> Option<Routed>;
}

/// A router by which every notification of a rule with a channel reaches someone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Everybody;

impl Router for Everybody {
    fn route(&self, due: &DueNotification<'_>) -> Option<Routed> {
        let people = due.rule.channels.name_people();
        Some(if people { Routed::Somebody } else { Routed::NoChannel })
    }
}

/// The router, and the wall clock of the question.
#[derive(Clone, Copy)]
pub struct RoutingAt<'a> {
    /// The router.
    pub router: &'a dyn Router,
    /// Wall clock, in milliseconds.
    pub now_ms: i64,
}

/// The question of one step, and what became of it.
pub struct Question<'a> {
    routing: RoutingAt<'a>,
    due: DueNotification<'a>,
    /// Whether the router knew. `None`: the step did not ask.
    answered: Cell<Option<bool>>,
}

impl<'a> Question<'a> {
    /// A question that is not asked yet.
    pub fn new(routing: RoutingAt<'a>, due: DueNotification<'a>) -> Self {
        Self { routing, due, answered: Cell::new(None) }
    }

    /// Asks the router. People who are not looked up cannot be notified.
    pub fn route(&self) -> Routed {
        let routed = self.routing.router.route(&self.due);
        self.answered.set(Some(routed.is_some()));
        routed.unwrap_or(Routed::Nobody(OwedReason::NoRecipient))
    }

    /// Whether the step asked.
    pub fn was_asked(&self) -> bool {
        self.answered.get().is_some()
    }

    /// Whether the people must be looked up before the step.
    pub fn is_unknown(&self) -> bool {
        self.answered.get() == Some(false)
    }
}
