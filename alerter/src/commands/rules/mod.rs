//! `alerter rules`: checks rules, and lists the active rules.
//!
//! Changes nothing.

mod check;
mod describe;
mod list;
mod listing;
mod print;

use std::process::ExitCode;

use clap::Subcommand;
use ljwx_service::config::Problems;

use crate::commands::rule_source::SourceArgs;
use crate::commands::rules::check::rules_check;
use crate::commands::rules::list::{RuleListArgs, rules_list};

/// The commands of `alerter rules`.
#[derive(Debug, Clone, Subcommand)]
pub enum RulesCommand {
    /// Validate rules as the service would and list every problem; exits 1 if there is a problem.
    Check(SourceArgs),
    /// List the active rules of a tenant with their origin, and the invalid rules.
    List(RuleListArgs),
}

impl RulesCommand {
    pub(crate) fn validate(&self, problems: &mut Problems) {
        match self {
            Self::Check(source) => source.validate(problems),
            Self::List(list) => list.validate(problems),
        }
    }

    /// Runs the command. Prints to standard output.
    pub fn run(&self) -> ExitCode {
        match self {
            Self::Check(source) => rules_check(source),
            Self::List(list) => rules_list(list),
        }
    }
}
