//! The history that outlasts an episode: the last notification, and the latest openings.
//!
//! Pure: event time comes as an argument, in milliseconds, never older than before.

use serde::{Deserialize, Serialize};

use crate::rules::{Policy, Severity};

/// The history that outlasts an episode.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NotifyHistory {
    /// Time of the last notification of an opening, a reminder or an escalation. The cooldown
    /// counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) notified_at: Option<i64>,
    /// The latest openings, as many as flapping takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    openings: Vec<i64>,
    #[serde(default, skip_serializing_if = "Flap::is_none")]
    flap: Flap,
    /// Whether the end of the last episode was notified. People then believe that it is over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) end_notified: bool,
}

/// Whether openings come too often, and whether a notification has reported the flapping.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Flap {
    #[default]
    None,
    Unnotified,
    Notified,
}

impl Flap {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl NotifyHistory {
    /// Drops old openings. If none is left, flapping has ended.
    pub fn end_flapping(&mut self, policy: &Policy, at: i64) {
        self.openings.retain(|opening| at - opening < policy.flap.window_ms);
        if self.openings.is_empty() {
            self.flap = Flap::None;
        }
    }

    /// Records an opening.
    pub fn opens(&mut self, policy: &Policy, at: i64) {
        self.end_flapping(policy, at);
        self.openings.push(at);
        let surplus = self.openings.len().saturating_sub(policy.flap.openings);
        self.openings.drain(..surplus);
        if self.flap.is_none() && self.openings.len() >= policy.flap.openings {
            self.flap = Flap::Unnotified;
        }
    }

    /// Whether the opening that was just recorded may be sent. After a notified end, a critical
    /// opening does not wait for the cooldown.
    pub fn may_open(&mut self, policy: &Policy, at: i64) -> bool {
        let anew = std::mem::take(&mut self.end_notified) && policy.severity == Severity::Critical;
        self.may_notify(policy, at) || anew && !self.is_muted_by_flapping()
    }

    /// Whether a notification about an open episode may be sent.
    pub fn may_notify(&self, policy: &Policy, at: i64) -> bool {
        self.since_notified(at) >= policy.cooldown_ms && !self.is_muted_by_flapping()
    }

    /// Records a notification.
    pub fn record_notification(&mut self, at: i64) {
        self.notified_at = Some(at);
        if self.flap == Flap::Unnotified {
            self.flap = Flap::Notified;
        }
    }

    /// Counts from a reading at `at` if a look dated the last notification later. Readings of a slow
    /// clock lag behind the wall clock, by which a look is dated.
    pub fn turn_back(&mut self, at: i64) {
        self.notified_at = self.notified_at.map(|notified| notified.min(at));
    }

    /// Drops history that can no longer suppress a notification.
    pub fn expire(&mut self, policy: &Policy, at: i64) {
        self.notified_at = self.notified_at.filter(|notified| at - notified < policy.cooldown_ms);
        self.end_notified &= self.notified_at.is_some();
        self.end_flapping(policy, at);
    }

    /// Returns the time since the last notification.
    pub fn since_notified(&self, at: i64) -> i64 {
        self.notified_at.map_or(i64::MAX, |notified| at - notified)
    }

    /// Whether openings come too often.
    pub fn is_flapping(&self) -> bool {
        !self.flap.is_none()
    }

    /// Whether openings come too often as of `at`.
    pub fn is_flapping_at(&self, policy: &Policy, at: i64) -> bool {
        self.is_flapping()
            && self.openings.iter().any(|opening| at - opening < policy.flap.window_ms)
    }

    /// Whether the cooldown or flapping holds back notifications as of `at`.
    pub fn is_muted_at(&self, policy: &Policy, at: i64) -> bool {
        self.since_notified(at) < policy.cooldown_ms
            || self.is_muted_by_flapping() && self.is_flapping_at(policy, at)
    }

    /// Whether a notification has reported the flapping. Until flapping ends, no more are sent.
    pub fn is_muted_by_flapping(&self) -> bool {
        self.flap == Flap::Notified
    }
}
