//! `alerter rules check`: validates rules as the service does, before the service reads them.
//!
//! [`crate::rules::validation`] decides what makes a rule valid.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::commands::block_on;
use crate::commands::rule_source::SourceArgs;
use crate::rules::validation::{CheckedRule, RuleStatus};

/// Lists every problem. Fails if there is a problem, or if the rules cannot be read.
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

/// The totals of a check.
#[derive(Debug, Default, PartialEq, Eq)]
struct CheckSummary {
    /// Valid rules, disabled ones included.
    valid: usize,
    /// Invalid rules.
    refused: usize,
    /// Rows for device events.
    events: usize,
    /// Deleted rules.
    deleted: usize,
}

/// Prints every problem, one a line, and the totals.
fn report(checks: &[CheckedRule], out: &mut impl Write) -> io::Result<CheckSummary> {
    let mut summary = CheckSummary::default();
    for check in checks {
        match &check.checked {
            RuleStatus::Valid(_) => summary.valid += 1,
            RuleStatus::Deleted => summary.deleted += 1,
            RuleStatus::Event => summary.events += 1,
            RuleStatus::Invalid(problems) => {
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
    let CheckSummary { valid, refused, events, deleted } = summary;
    writeln!(out, "{valid} valid, {refused} refused, {events} for events, {deleted} deleted")?;
    Ok(summary)
}
