//! A notification that was due and reached no one.
//!
//! Pure. Part of the episode's state, so it outlasts a restart. The episode decides when it is
//! notified.

use serde::{Deserialize, Serialize};

use crate::engine::routing::OwedReason;
use crate::rules::verdict::Verdict;

/// What an open episode owes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OwedNotification {
    /// Why the last try reached no one.
    pub reason: OwedReason,
    /// Event time at which the notification became due.
    pub(super) since: i64,
    /// Whether a rise of the severity is owed, which concerns more people than a reminder.
    pub(super) rise: bool,
    /// Whether the watch has the message, though the watch does not count.
    pub(super) on_watch: bool,
    /// The latest verdict that had a value.
    verdict: Verdict,
}

impl OwedNotification {
    /// A notification that became due at event time `since` by a breach.
    pub(super) fn new(reason: OwedReason, since: i64, verdict: &Verdict) -> Self {
        Self { reason, since, rise: false, on_watch: false, verdict: *verdict }
    }

    /// Takes over a try that reached no one. The watch has its message if recipients were looked
    /// for.
    pub(super) fn tried(&mut self, reason: OwedReason, rise: bool) {
        // A late breach was not tried, so it says nothing about the reason.
        if reason != OwedReason::Late {
            self.reason = reason;
        }
        self.rise |= rise;
        self.on_watch |= reason.is_unreachable();
    }

    /// Keeps a later verdict.
    pub(super) fn saw(&mut self, verdict: &Verdict) {
        if *verdict != Verdict::Absent {
            self.verdict = *verdict;
        }
    }

    /// Returns the latest verdict that had a value.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }
}
