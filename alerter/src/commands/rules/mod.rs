//! `alerter rules`: checks rules, and lists the active rules.
//!
//! Changes nothing.

mod describe;
mod listing;
mod print;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Subcommand;
use ljwx_service::config::Problems;

use super::print_json;
use super::rule_source::SourceArgs;
use crate::rules::loading::snapshot::RulesSnapshot;
use crate::rules::validation::RuleStatus;
use listing::RuleListing;
use print::print;

/// The commands of `alerter rules`.
#[derive(Debug, Clone, Subcommand)]
pub enum RulesCommand {
    /// Validate rules as the service would and list every problem; exits 1 if there is a problem.
    Check(SourceArgs),
    /// List the active rules of a tenant with their origin, and the invalid rules.
    List(RuleListArgs),
}

/// Settings of `rules list`.
#[derive(Debug, Clone, clap::Args)]
pub struct RuleListArgs {
    /// The source of the rules.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Tenant whose rules are listed; 0: a tenant without rules of its own.
    #[arg(long, default_value_t = 0)]
    pub customer_id: i64,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub json: bool,
}

impl RulesCommand {
    pub(crate) fn validate(&self, problems: &mut Problems) {
        match self {
            Self::Check(source) => source.validate(problems),
            Self::List(list) => {
                list.source.validate(problems);
                problems
                    .require(list.customer_id >= 0, || "--customer-id must be at least 0".into());
            }
        }
    }

    /// Runs the command. Prints to standard output.
    pub async fn run(&self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Check(source) => check(source).await,
            Self::List(config) => list(config).await,
        }
    }
}

/// Validates rules as the service does, before the service reads them. Prints every problem, one a
/// line, and fails if there is a problem.
async fn check(config: &SourceArgs) -> anyhow::Result<ExitCode> {
    let (source, _) = config.source()?;
    let checks = source.load().await?;
    let out = &mut io::stdout();
    let (mut valid, mut refused, mut events, mut deleted) = (0, 0, 0, 0);
    for check in checks {
        match check.checked {
            RuleStatus::Valid(_) => valid += 1,
            RuleStatus::Deleted => deleted += 1,
            RuleStatus::Event => events += 1,
            RuleStatus::Invalid(problems) => {
                refused += 1;
                for problem in problems {
                    writeln!(out, "error: {}: {problem}", check.name)?;
                }
            }
        }
        for warning in check.warnings {
            writeln!(out, "warning: {}: {warning}", check.name)?;
        }
    }
    writeln!(out, "{valid} valid, {refused} refused, {events} for events, {deleted} deleted")?;
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the rules of a tenant. Fails if the rules cannot be read.
async fn list(config: &RuleListArgs) -> anyhow::Result<ExitCode> {
    let (source, store) = config.source.source()?;
    let snapshot = RulesSnapshot::read(&source, store).await?;
    let listing = RuleListing::new(&snapshot, config.customer_id);
    let out = &mut io::stdout().lock();
    if config.json {
        print_json(&listing, out)?;
    } else {
        print(&listing, out)?;
    }
    Ok(ExitCode::SUCCESS)
}
