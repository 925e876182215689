//! The circumstances of an episode's step, beside the verdict.

use crate::engine::routing::Routed;
use crate::rules::policy::Policy;
use crate::rules::severity::Severity;

/// The circumstances of a step.
#[derive(Clone, Copy)]
pub struct StepContext<'a> {
    /// The rule's policy.
    pub policy: &'a Policy,
    /// Event time of the step.
    pub at: i64,
    /// Wall clock of the step. The difference is the age of the event.
    pub wall: i64,
    /// Answers whom a notification can reach.
    pub route: &'a dyn Fn() -> Routed,
    /// Whether a rule above this one inhibits its notifications at a severity.
    pub inhibited: &'a dyn Fn(Severity) -> bool,
}
