//! What outlasts an episode: when somebody was told last, and how often episodes have opened.
//!
//! Pure: event time comes as an argument, in milliseconds, never older than before.

use serde::{Deserialize, Serialize};

use crate::rules::policy::Policy;

/// What outlasts an episode.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// Last notification of an opening, a repeat or an escalation: the cooldown counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told_at: Option<i64>,
    /// The latest openings, as many as could be flapping.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    openings: Vec<i64>,
    #[serde(default, skip_serializing_if = "Flap::is_none")]
    flap: Flap,
}

/// Whether openings come too often, and whether that was told.
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
    /// Forgets openings that are long ago; without any the flapping has settled.
    pub fn settle(&mut self, policy: &Policy, at: i64) {
        self.openings.retain(|opening| at - opening < policy.flap.window_ms);
        if self.openings.is_empty() {
            self.flap = Flap::None;
        }
    }

    /// Notes an opening.
    pub fn opens(&mut self, policy: &Policy, at: i64) {
        self.settle(policy, at);
        self.openings.push(at);
        let surplus = self.openings.len().saturating_sub(policy.flap.openings);
        self.openings.drain(..surplus);
        if self.flap.is_none() && self.openings.len() >= policy.flap.openings {
            self.flap = Flap::Untold;
        }
    }

    /// Whether an opening, or a word about one, may be told.
    pub fn may_tell(&self, policy: &Policy, at: i64) -> bool {
        self.since_told(at) >= policy.cooldown_ms && !self.is_silent()
    }

    /// Notes that somebody is told.
    pub fn tells(&mut self, at: i64) {
        self.told_at = Some(at);
        if self.flap == Flap::Untold {
            self.flap = Flap::Told;
        }
    }

    /// Takes back that somebody was told since `before`.
    pub fn untold(&mut self, before: &Self) {
        self.told_at = before.told_at;
        if self.flap == Flap::Told && before.flap != Flap::Told {
            self.flap = Flap::Untold;
        }
    }

    /// Forgets what can silence nothing any more.
    pub fn fade(&mut self, policy: &Policy, at: i64) {
        self.told_at = self.told_at.filter(|told| at - told < policy.cooldown_ms);
        self.settle(policy, at);
    }

    /// Time since somebody was told last.
    pub fn since_told(&self, at: i64) -> i64 {
        self.told_at.map_or(i64::MAX, |told| at - told)
    }

    /// When somebody was told last, or `never` where nobody was.
    pub fn told_or(&self, never: i64) -> i64 {
        self.told_at.unwrap_or(never)
    }

    /// Whether openings come too often.
    pub fn is_flapping(&self) -> bool {
        !self.flap.is_none()
    }

    /// Whether that was told, so that no more is until it settles.
    pub fn is_silent(&self) -> bool {
        self.flap == Flap::Told
    }
}
