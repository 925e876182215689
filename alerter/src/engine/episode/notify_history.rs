//! The history that outlasts an episode: the last notification, and the latest openings.
//!
//! Pure: event time comes as an argument, in milliseconds, never older than before.

use serde::{Deserialize, Serialize};

use crate::rules::policy::Policy;

/// The history that outlasts an episode.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// Time of the last notification of an opening, a reminder or an escalation. The cooldown
    /// counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told_at: Option<i64>,
    /// The latest openings, as many as flapping takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    openings: Vec<i64>,
    #[serde(default, skip_serializing_if = "Flap::is_none")]
    flap: Flap,
}

/// Whether openings come too often, and whether a notification has reported the flapping.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Flap {
    #[default]
    None,
    Untold,
    Told,
}

impl Flap {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl Past {
    /// Drops old openings. If none is left, flapping has ended.
    pub fn settle(&mut self, policy: &Policy, at: i64) {
        self.openings.retain(|opening| at - opening < policy.flap.window_ms);
        if self.openings.is_empty() {
            self.flap = Flap::None;
        }
    }

    /// Records an opening.
    pub fn opens(&mut self, policy: &Policy, at: i64) {
        self.settle(policy, at);
        self.openings.push(at);
        let surplus = self.openings.len().saturating_sub(policy.flap.openings);
        self.openings.drain(..surplus);
        if self.flap.is_none() && self.openings.len() >= policy.flap.openings {
            self.flap = Flap::Untold;
        }
    }

    /// Whether an opening, or a later notification about it, may be sent.
    pub fn may_tell(&self, policy: &Policy, at: i64) -> bool {
        self.since_told(at) >= policy.cooldown_ms && !self.is_silent()
    }

    /// Records a notification.
    pub fn tells(&mut self, at: i64) {
        self.told_at = Some(at);
        if self.flap == Flap::Untold {
            self.flap = Flap::Told;
        }
    }

    /// Reverts the notification since `before`.
    pub fn untold(&mut self, before: &Self) {
        self.told_at = before.told_at;
        if self.flap == Flap::Told && before.flap != Flap::Told {
            self.flap = Flap::Untold;
        }
    }

    /// Drops history that can no longer suppress a notification.
    pub fn fade(&mut self, policy: &Policy, at: i64) {
        self.told_at = self.told_at.filter(|told| at - told < policy.cooldown_ms);
        self.settle(policy, at);
    }

    /// Returns the time since the last notification.
    pub fn since_told(&self, at: i64) -> i64 {
        self.told_at.map_or(i64::MAX, |told| at - told)
    }

    /// Returns the time of the last notification, or `never` if there is none.
    pub fn told_or(&self, never: i64) -> i64 {
        self.told_at.unwrap_or(never)
    }

    /// Whether openings come too often.
    pub fn is_flapping(&self) -> bool {
        !self.flap.is_none()
    }

    /// Whether a notification has reported the flapping. Until flapping ends, no more are sent.
    pub fn is_silent(&self) -> bool {
        self.flap == Flap::Told
    }
}
