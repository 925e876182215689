//! `alerter rules check`: the validation of the service, before the service meets the rules.
//!
//! Prints; what makes a rule valid is for [`crate::rules::validation`] to say.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::commands::block_on;
use crate::commands::rule_source::SourceArgs;
use crate::rules::validation::{Check, Checked};

/// Lists every problem; fails where there is one, or where the rules cannot be read.
pub fn rules_check(config: &SourceArgs) -> ExitCode {
    let checks = block_on(async {
        let pool = config.pool()?;
        Ok(config.source(pool.as_ref())?.load().await?)
    });
    match checks.and_then(|checks| Ok(report(&checks, &mut io::stdout())?)) {
        Ok(summary) if summary.refused == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What a check came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    /// Rules that would be judged by, or are disabled.
    valid: usize,
    /// Rules that would be refused.
    refused: usize,
    /// Rows for device events.
    events: usize,
    /// Deleted rules.
    deleted: usize,
}

/// Writes every problem, one a line, and what it came to.
fn report(checks: &[Check], out: &mut impl Write) -> io::Result<Summary> {
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
