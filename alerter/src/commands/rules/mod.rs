//! `alerter rules`: checks rules, and lists the active rules.
//!
//! Changes nothing.

mod listing;
mod print;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use ljwx_ledger::mysql::MySqlArgs;
use ljwx_service::config::{Problems, ZoneArgs};
use ljwx_service::text::print_found;
use secrecy::SecretString;

use crate::rules::loading::last_good::LastGoodStore;
use crate::rules::loading::snapshot::RulesSnapshot;
use crate::rules::loading::source::RuleSource;
use crate::rules::validation::RuleStatus;
use listing::RuleListing;
use print::print;

/// Time for which a command waits for a connection to MySQL.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Time limit of one statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// The commands of `alerter rules`.
#[derive(Debug, Clone, Subcommand)]
pub enum RulesCommand {
    /// Validate rules as the service would and list every problem; exits 1 if there is a problem.
    Check(SourceArgs),
    /// List the active rules of a tenant with their origin, and the invalid rules.
    List(RuleListArgs),
}

/// Settings of `rules list`.
#[derive(Debug, Clone, Args)]
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

/// Settings of the source of the rules.
#[derive(Debug, Clone, Args)]
pub struct SourceArgs {
    /// YAML file with the rules.
    #[arg(conflicts_with = "from_db")]
    pub file: Option<PathBuf>,
    /// Read the platform's table instead of a file.
    #[arg(long)]
    pub from_db: bool,
    /// MySQL or MariaDB, as mysql://user:password@host:port/database; for --from-db, and for the
    /// last good versions of invalid rules.
    #[arg(long, env = "MYSQL_URL", hide_env_values = true)]
    pub mysql_url: Option<SecretString>,
    /// The devices' zone.
    #[command(flatten)]
    pub zone: ZoneArgs,
}

impl SourceArgs {
    fn validate(&self, problems: &mut Problems) {
        problems.require(self.file.is_some() || self.from_db, || {
            "name the FILE to look at, or --from-db for the platform's table".into()
        });
        problems.require(!self.from_db || self.mysql_url.is_some(), || {
            "--from-db needs --mysql-url".into()
        });
        if let Some(url) = &self.mysql_url {
            mysql(url).validate(problems);
        }
    }

    /// Returns the source of the rules and, if the URL of a database is given, the store of their
    /// last good versions. Must be called inside a runtime.
    fn source(&self) -> anyhow::Result<(RuleSource, Option<LastGoodStore>)> {
        let connect = |url| mysql(url).connect(&self.zone.zone).context("--mysql-url");
        let pool = self.mysql_url.as_ref().map(connect).transpose()?;
        let source = match &self.file {
            Some(path) => RuleSource::File(path.clone()),
            None => RuleSource::Table(pool.clone().context("--mysql-url is missing")?),
        };
        let store = pool.map(|pool| source.store(pool));
        Ok((source, store))
    }
}

/// The connection to MySQL of a command that runs a few statements, one after the other.
pub(super) fn mysql(url: &SecretString) -> MySqlArgs {
    MySqlArgs {
        url: url.clone(),
        pool_size: 2,
        acquire_timeout: TIMEOUT,
        statement_timeout: STATEMENT_TIMEOUT,
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
    print_found(config.json, &listing, &mut io::stdout().lock(), print)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn a_look_at_rules_needs_to_know_which() {
        let zone = || ZoneArgs { zone: TimeZone::UTC };
        let url = || Some(SecretString::from("mysql://u@h/d"));
        for (file, mysql_url, problem) in [
            (Some(PathBuf::from("rules.yaml")), None, None),
            (None, url(), None),
            (None, None, Some("--mysql-url")),
            (None, Some(SecretString::from("mysql://u@h")), Some("--mysql-url")),
        ] {
            let from_db = file.is_none();
            let mut problems = Problems::default();
            SourceArgs { file, from_db, mysql_url, zone: zone() }.validate(&mut problems);
            let found = problems.list();
            assert_eq!(found.len(), usize::from(problem.is_some()), "{found:?}");
            assert!(problem.is_none_or(|problem| found[0].contains(problem)), "{found:?}");
        }
        let mut problems = Problems::default();
        let none = SourceArgs { file: None, from_db: false, mysql_url: url(), zone: zone() };
        none.validate(&mut problems);
        assert!(problems.list()[0].contains("--from-db"), "{problems:?}");
    }
}
