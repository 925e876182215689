//! The policy of a rule: the settings that turn verdicts into episodes and notifications.
//!
//! Pure. [`crate::engine::episode`] applies the policy.

use crate::rules::severity::Severity;

/// The settings that decide what follows from a series of verdicts.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Consecutive breaches that open an episode.
    pub trend: usize,
    /// Longest time from the first to the last of these breaches, in milliseconds.
    pub window_ms: i64,
    /// Consecutive clear readings that end an episode.
    pub clear_after: u32,
    /// Cooldown after a notification, in milliseconds.
    pub cooldown_ms: i64,
    /// Time between reminders while an episode is open, in milliseconds; `None`: no reminders.
    pub repeat_ms: Option<i64>,
    /// Severity at the opening.
    pub severity: Severity,
    /// Later severities, in rising order of time.
    pub escalation: Vec<Escalation>,
    /// The limits of flapping.
    pub flap: FlapLimits,
}

/// A change of severity during an episode.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Escalation {
    /// Time since the opening, in milliseconds.
    pub after_ms: i64,
    /// The severity from this time on. A lower severity is a timed de-escalation.
    pub to: Severity,
}

/// The number of openings within a time that is flapping.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FlapLimits {
    /// Number of openings.
    pub openings: usize,
    /// Time within which the openings lie, in milliseconds. Flapping ends after the same time
    /// without an opening.
    pub window_ms: i64,
}
