//! A finding of the audit: a stable code, whether it fails the audit, and what to do.

use serde::Serialize;

/// Whether a finding decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The books do not balance.
    Failure,
    /// Worth knowing.
    Note,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The stable word.
    pub code: &'static str,
    /// Whether it decides.
    pub level: Level,
    /// The partition it is about.
    pub partition: Option<i32>,
    /// What does not fit.
    pub message: String,
    /// What to do.
    pub remedy: &'static str,
}

/// Findings so far.
#[derive(Default)]
pub(super) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    pub(super) fn add(
        &mut self,
        level: Level,
        code: &'static str,
        partition: impl Into<Option<i32>>,
        message: String,
        remedy: &'static str,
    ) {
        self.0.push(Finding { code, level, partition: partition.into(), message, remedy });
    }
}
