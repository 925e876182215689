//! The settings by which a rule makes episodes and notifications of a series of verdicts.
//!
//! Pure. [`crate::engine::episode`] applies them.

use crate::rules::severity::Severity;

/// What a rule makes of a series of verdicts.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Consecutive breaches that open an episode.
    pub trend: usize,
    /// Time from the first to the last of them, at most.
    pub window_ms: i64,
    /// Consecutive clear readings that end it.
    pub clear_after: u32,
    /// Silence after a notification.
    pub cooldown_ms: i64,
    /// Reminders while it lasts.
    pub repeat_ms: Option<i64>,
    /// Severity at the opening.
    pub severity: Severity,
    /// Severities later on, in rising order of time.
    pub escalation: Vec<Escalation>,
    /// When openings are too many to be told one by one.
    pub flap: FlapLimits,
}

/// A change of severity while an episode lasts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Escalation {
    /// Time since the opening.
    pub after_ms: i64,
    /// The severity from then on; lower ones are a timed de-escalation.
    pub to: Severity,
}

/// So many openings within so long are flapping.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FlapLimits {
    /// Openings.
    pub openings: usize,
    /// The time that all of them lie within; after as long without one it has settled.
    pub window_ms: i64,
}
