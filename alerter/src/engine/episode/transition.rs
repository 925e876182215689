//! What happens to an episode: the changes that are recorded, and told.
//!
//! Pure. Which change a verdict leads to is for [`super::Episode`] to say.

use serde::{Deserialize, Serialize};

use crate::rules::severity::Severity;

/// What happened to an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// It began.
    Opened,
    /// It goes on, and somebody is to be told (again).
    Notified,
    /// Its severity changed.
    Escalated,
    /// It ended.
    Resolved,
    /// It was closed because its rule changed.
    Superseded,
    /// It was closed because its device has fallen silent.
    Stale,
}

impl To {
    /// The word in tables and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Notified => "notified",
            Self::Escalated => "escalated",
            Self::Resolved => "resolved",
            Self::Superseded => "superseded",
            Self::Stale => "stale",
        }
    }
}

/// A change worth recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// What happened.
    pub to: To,
    /// Severity after it.
    pub severity: Severity,
    /// Whether people are to be told.
    pub notify: bool,
    /// Names the episode, together with rule, version and device.
    pub opened_at: i64,
    /// Counts the episode's transitions from 0.
    pub seq: u32,
    /// Whether it is one of many: people hear of that, and then of no more openings until it settles.
    pub flapping: bool,
}
