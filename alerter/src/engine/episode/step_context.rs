//! The circumstances of an episode's step, beside the verdict.

use crate::engine::routing::{OwedReason, Routed};
use crate::rules::policy::Policy;

/// The circumstances of a step.
#[derive(Clone, Copy)]
pub struct StepContext<'a> {
    /// The rule's policy.
    pub policy: &'a Policy,
    /// Event time of the step.
    pub at: i64,
    /// Whether the reading is too old to be notified as if it were now.
    pub late: bool,
    /// Answers whom a notification can reach.
    pub route: &'a dyn Fn() -> Routed,
}

impl StepContext<'_> {
    /// Returns whom a notification can reach. A late one is not routed.
    pub fn routed(&self) -> Routed {
        if self.late { Routed::Nobody(OwedReason::Late) } else { (self.route)() }
    }
}
