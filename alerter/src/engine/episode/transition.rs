//! The steps of an episode: their circumstances, and the transitions that they make, which are recorded
//! and notified.
//!
//! Pure. [`super::Episode`] decides which transition a verdict leads to.

use serde::{Deserialize, Serialize};

use crate::engine::routing::Routed;
use crate::rules::{Policy, Severity, Verdict};

/// The circumstances of a step.
#[derive(Clone, Copy)]
pub struct StepContext<'a> {
    /// The rule's policy.
    pub policy: &'a Policy,
    /// The rule's verdict.
    pub verdict: Verdict,
    /// Event time of the step.
    pub at: i64,
    /// Wall clock of the step. The difference is the age of the event.
    pub wall: i64,
    /// Answers whom a notification can reach.
    pub route: &'a dyn Fn() -> Routed,
    /// Whether a rule above this one inhibits its notifications at a severity.
    pub inhibited: &'a dyn Fn(Severity) -> bool,
}

/// The kind of a transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransitionKind {
    /// The episode opened.
    Opened,
    /// The episode continues, and people are to be notified, for the first time or again.
    Notified,
    /// The severity changed.
    Escalated,
    /// The episode ended.
    Resolved,
    /// The episode closed because its rule changed.
    Superseded,
    /// The episode closed because its device has fallen silent.
    Stale,
    /// The episode closed because its device has another wearer, or none, or is forgotten.
    Closed,
}

impl TransitionKind {
    /// Returns the word for tables and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Notified => "notified",
            Self::Escalated => "escalated",
            Self::Resolved => "resolved",
            Self::Superseded => "superseded",
            Self::Stale => "stale",
            Self::Closed => "closed",
        }
    }

    /// Whether the episode is over after the transition.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Resolved | Self::Superseded | Self::Stale | Self::Closed)
    }
}

/// A change that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The kind of the transition.
    pub to: TransitionKind,
    /// Severity after the transition.
    pub severity: Severity,
    /// Whether the severity has fallen.
    pub eased: bool,
    /// Whether people are notified.
    pub notify: bool,
    /// Whom the notification reaches. `None`: no notification is due, or it is that of an end.
    pub routed: Option<Routed>,
    /// Whether only those are notified who were notified of the episode before.
    pub follow_up: bool,
    /// Whether the watch has the message of this notification already, though the watch does not
    /// count.
    pub on_watch: bool,
    /// Whether the notification comes long after its event.
    pub delayed: bool,
    /// Whether a rule above this one inhibits the notification.
    pub inhibited: bool,
    /// The severity of a lower rule of the vital that goes on after this end.
    pub goes_on: Option<Severity>,
    /// Time of the opening, which with rule, version and device names the episode.
    pub opened_at: i64,
    /// Number of the transition in its episode, from 0.
    pub seq: u32,
    /// Whether the rule is flapping. People are notified of the flapping, and of no more openings
    /// until it ends.
    pub flapping: bool,
}
