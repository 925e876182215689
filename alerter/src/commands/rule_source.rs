//! Settings of the rules that a command reads.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use ljwx_ledger::mysql::MySqlArgs;
use ljwx_service::config::{Problems, ZoneArgs};
use secrecy::SecretString;

use crate::rules::loading::last_good::LastGoodStore;
use crate::rules::loading::source::RuleSource;

/// Time for which a command waits for a connection to MySQL.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Time limit of one statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings of the source of the rules.
#[derive(Debug, Clone, clap::Args)]
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
    /// Adds what is wrong with the settings to `problems`.
    pub fn validate(&self, problems: &mut Problems) {
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
    pub fn source(&self) -> anyhow::Result<(RuleSource, Option<LastGoodStore>)> {
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
pub fn mysql(url: &SecretString) -> MySqlArgs {
    MySqlArgs {
        url: url.clone(),
        pool_size: 2,
        acquire_timeout: TIMEOUT,
        statement_timeout: STATEMENT_TIMEOUT,
    }
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
