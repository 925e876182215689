//! `alerter rules list`: lists the active rules of a tenant with their origin, and the invalid
//! rules.

use std::io::{self, Write};
use std::process::ExitCode;

use ljwx_service::config::Problems;

use super::listing::RuleListing;
use super::print::print;
use crate::commands::block_on;
use crate::commands::rule_source::SourceArgs;
use crate::rules::loading::snapshot::RulesSnapshot;

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

impl RuleListArgs {
    /// Adds what is wrong with the settings to `problems`.
    pub fn validate(&self, problems: &mut Problems) {
        self.source.validate(problems);
        problems.require(self.customer_id >= 0, || "--customer-id must be at least 0".into());
    }
}

/// Prints the rules. Fails if the rules cannot be read.
pub fn rules_list(config: &RuleListArgs) -> ExitCode {
    let listed = block_on(read(config)).and_then(|snapshot| {
        let report = RuleListing::new(&snapshot, config.customer_id);
        let mut out = io::stdout().lock();
        if config.json {
            serde_json::to_writer_pretty(&mut out, &report)?;
            return Ok(writeln!(out)?);
        }
        Ok(print(&report, &mut out)?)
    });
    match listed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn read(config: &RuleListArgs) -> anyhow::Result<RulesSnapshot> {
    let pool = config.source.pool()?;
    let source = config.source.source(pool.as_ref())?;
    let store = pool.map(|pool| source.store(pool));
    RulesSnapshot::read(&source, store).await
}
