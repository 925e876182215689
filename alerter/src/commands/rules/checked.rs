//! `alerter rules check`: the same validation as at run time, as a report for people.

use std::io::Write;

use crate::rules::validation::{Check, Checked};

/// What a check came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rules that would be judged by, or are disabled.
    pub valid: usize,
    /// Rules that would be refused.
    pub refused: usize,
    /// Rows for device events.
    pub events: usize,
    /// Deleted rules.
    pub deleted: usize,
}

/// Writes every problem, one a line, and what it came to.
pub fn report(checks: &[Check], out: &mut impl Write) -> std::io::Result<Summary> {
    let mut summary = Summary::default();
    for check in checks {
        match &check.checked {
            Checked::Valid(_) => summary.valid += 1,
            Checked::Deleted => summary.deleted += 1,
            Checked::Event => summary.events += 1,
            Checked::Refused(problems) => {
                summary.refused += 1;
                for problem in problems {
                    writeln!(out, "error: {problem}")?;
                }
            }
        }
        let rule = check.id.unwrap_or_default();
        for warning in &check.warnings {
            writeln!(out, "warning: rule {rule}: {warning}")?;
        }
    }
    let Summary { valid, refused, events, deleted } = summary;
    writeln!(out, "{valid} valid, {refused} refused, {events} for events, {deleted} deleted")?;
    Ok(summary)
}
