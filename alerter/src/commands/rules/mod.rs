//! `alerter rules`: checks rules and lists those in force.
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
use crate::commands::rules::list::{ListConfig, rules_list};

/// What can be done with rules.
#[derive(Debug, Clone, Subcommand)]
pub enum RulesCommand {
    /// Validates rules as the service would and lists every problem; exits 1 if there is one.
    Check(SourceArgs),
    /// Shows the rules in force for a tenant, where each comes from, and those that are refused.
    List(ListConfig),
}

impl RulesCommand {
    pub(crate) fn validate(&self, problems: &mut Problems) {
        match self {
            Self::Check(source) => source.validate(problems),
            Self::List(list) => list.validate(problems),
        }
    }

    /// Does it; prints to standard output.
    pub fn run(&self) -> ExitCode {
        match self {
            Self::Check(source) => rules_check(source),
            Self::List(list) => rules_list(list),
        }
    }
}
