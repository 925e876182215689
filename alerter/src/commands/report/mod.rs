//! `alerter report`: how good the alerts of a span of time were.
//!
//! Reads the question; `assemble` answers it.

mod aggregate;
mod assemble;
mod counts;
mod episodes;
mod findings;
mod percentiles;
mod print;
mod query;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use jiff::Timestamp;
use ljwx_service::config::{Problems, When};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::TableArgs;
use crate::commands::report::assemble::Report;
use crate::commands::report::print::print;
use crate::commands::report::query::Question;
use crate::rules::loading::source::Source;
use crate::rules::rule::Rule;
use crate::rules::validation::{Check, Checked};

/// How long one of its statements may take: they go through all alerts of the time that is asked for.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(600);

/// Settings of `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportConfig {
    /// Alerts of this event time on, as `yyyy-MM-dd HH:mm:ss` in the devices' zone or RFC 3339.
    #[arg(long, value_name = "T", value_parser = When::parse)]
    pub from: When,
    /// Alerts before this event time; up to now where it is not given.
    #[arg(long, value_name = "T", value_parser = When::parse)]
    pub to: Option<When>,
    /// Only this tenant's.
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
    pub tables: TableArgs,
}

impl ReportConfig {
    pub(crate) fn validate(&self, problems: &mut Problems) {
        self.tables.validate(problems);
        let zone = &self.tables.zone.zone;
        let ordered = self.to.is_none_or(|to| self.from.at_ms(zone) < to.at_ms(zone));
        problems.require(ordered, || "--from must lie before --to".into());
    }

    /// Makes the report and prints it on standard output.
    pub async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        let report = tokio::select! {
            report = self.make() => report?,
            () = stop.cancelled() => anyhow::bail!("interrupted"),
        };
        Ok(print(&report, self.json, &mut std::io::stdout())?)
    }

    async fn make(&self) -> anyhow::Result<Report> {
        let zone = &self.tables.zone.zone;
        let now_ms = Timestamp::now().as_millisecond();
        let from_ms = self.from.at_ms(zone);
        ensure!(from_ms < now_ms, "--from must lie in the past");
        let question = Question {
            from_ms,
            to_ms: self.to.map_or(now_ms, |to| to.at_ms(zone).min(now_ms)),
            customer_id: self.customer_id,
            zone: zone.clone(),
        };
        let pool = self.tables.mysql.connect(zone)?.with_limit(STATEMENT_TIMEOUT);
        let source = match &self.rules_file {
            Some(path) => Source::File(path.clone()),
            None => Source::Table(pool.clone()),
        };
        let rules = valid(source.load().await?);
        let mut connection = pool.acquire().await.context("MySQL does not answer")?;
        assemble::make(&mut connection, &question, rules, now_ms).await
    }
}

/// Rules that do not validate never fire, which is not their worst fault: `rules check` says it.
fn valid(checks: Vec<Check>) -> Vec<Rule> {
    let (mut rules, mut refused) = (Vec::new(), 0_u32);
    for check in checks {
        match check.checked {
            Checked::Valid(rule) => rules.push(*rule),
            Checked::Refused(_) => refused += 1,
            Checked::Deleted | Checked::Event => {}
        }
    }
    if refused > 0 {
        warn!(refused, "rules that are not valid are left out, see `alerter rules check`");
    }
    rules
}
