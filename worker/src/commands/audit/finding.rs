//! A finding of the audit: a stable code, whether it fails the audit, and what to do.

use serde::Serialize;

/// Whether a finding fails the audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingLevel {
    /// A mismatch that fails the audit.
    Failure,
    /// An observation that does not fail the audit.
    Note,
}

/// A mismatch or an observation, with a remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable word of the finding.
    pub code: &'static str,
    /// Whether the finding fails the audit.
    pub level: FindingLevel,
    /// The partition, if the finding is about one partition.
    pub partition: Option<i32>,
    /// The mismatch or the observation.
    pub message: String,
    /// The next step for the operator.
    pub remedy: &'static str,
}

/// Findings so far.
#[derive(Default)]
pub(super) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    pub(super) fn add(
        &mut self,
        level: FindingLevel,
        code: &'static str,
        partition: impl Into<Option<i32>>,
        message: String,
        remedy: &'static str,
    ) {
        self.0.push(Finding { code, level, partition: partition.into(), message, remedy });
    }
}
