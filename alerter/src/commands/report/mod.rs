//! `alerter report`: reports on the alerts of a period.
//!
//! This module holds the settings. `assemble` makes the report.

mod aggregate;
mod assemble;
mod percentiles;
mod print;
mod query;
mod rows;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use jiff::Timestamp;
use ljwx_service::config::{Problems, TimeArg};
use ljwx_service::text::print_found;

use super::DatabaseArgs;
use crate::commands::report::assemble::AlertReport;
use crate::commands::report::print::print;
use crate::commands::report::query::ReportQuery;
use crate::rules::loading::snapshot::RulesSnapshot;
use crate::rules::loading::source::RuleSource;

/// Time limit of one statement. The statements read all alerts of the period.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(600);

/// Settings of `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Event time of the first alerts, as `yyyy-MM-dd HH:mm:ss` in the devices' zone or RFC 3339.
    #[arg(long, value_name = "T", value_parser = TimeArg::parse)]
    pub from: TimeArg,
    /// Event time before which the alerts end; none: now.
    #[arg(long, value_name = "T", value_parser = TimeArg::parse)]
    pub to: Option<TimeArg>,
    /// Only alerts of this tenant.
    #[arg(long)]
    pub customer_id: Option<i64>,
    /// Print one JSON document instead of tables.
    #[arg(long)]
    pub json: bool,
    /// YAML file with the rules, for installations without the platform's table.
    #[arg(long, env = "RULES_FILE")]
    pub rules_file: Option<PathBuf>,
    /// The tables.
    #[command(flatten)]
    pub tables: DatabaseArgs,
}

impl ReportArgs {
    pub(crate) fn validate(&self, problems: &mut Problems) {
        self.tables.validate(problems);
        let zone = &self.tables.zone.zone;
        let ordered = self.to.is_none_or(|to| self.from.at_ms(zone) < to.at_ms(zone));
        problems.require(ordered, || "--from must lie before --to".into());
    }

    /// Makes the report and prints it on standard output.
    pub async fn run(&self) -> anyhow::Result<()> {
        let report = self.make().await?;
        Ok(print_found(self.json, &report, &mut std::io::stdout(), print)?)
    }

    async fn make(&self) -> anyhow::Result<AlertReport> {
        let zone = &self.tables.zone.zone;
        let now_ms = Timestamp::now().as_millisecond();
        let from_ms = self.from.at_ms(zone);
        ensure!(from_ms < now_ms, "--from must lie in the past");
        let question = ReportQuery {
            from_ms,
            to_ms: self.to.map_or(now_ms, |to| to.at_ms(zone).min(now_ms)),
            customer_id: self.customer_id,
            zone: zone.clone(),
        };
        let pool = self.tables.connect()?.with_limit(STATEMENT_TIMEOUT);
        let source = match &self.rules_file {
            Some(path) => RuleSource::File(path.clone()),
            None => RuleSource::Table(pool.clone()),
        };
        let RulesSnapshot { rules, refused, .. } = RulesSnapshot::read(&source, None).await?;
        if !refused.is_empty() {
            eprintln!("{} invalid rules skipped: see `alerter rules check`", refused.len());
        }
        let mut connection = pool.acquire().await.context("MySQL does not answer")?;
        assemble::make(&mut connection, &question, &rules, now_ms).await
    }
}
