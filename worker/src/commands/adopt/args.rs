//! Settings of `worker adopt`.

use std::time::Duration;

use ljwx_ledger::mysql::MySqlArgs;
use ljwx_service::config::{Problems, ZoneArgs, duration};
use ljwx_service::telemetry::TelemetryArgs;

/// Longest name of a database, in characters.
const DATABASE_CHARS_MAX: usize = 64;

/// Rate of copies and comparisons, in rows per second. At the least rate, the pause after a chunk is
/// shorter than the time after which the server ends an idle session.
const RATE_MIN: u32 = 100;
const RATE_MAX: u32 = 1_000_000;

/// Settings of `worker adopt`.
#[derive(Debug, Clone, clap::Args)]
pub struct AdoptArgs {
    /// Database of the earlier server, on the same MySQL server. Unset: the database of --mysql-url, in
    /// which the names of the old tables end with `_before`.
    #[arg(long, env = "ADOPT_FROM_DATABASE", global = true)]
    pub from_database: Option<String>,
    /// Most rows that are copied or compared per second. A busy server gets fewer: after each chunk, the
    /// command rests for a part of the time that the chunk took.
    #[arg(long, env = "ADOPT_ROWS_PER_SECOND", default_value_t = 5_000, global = true)]
    pub rows_per_second: u32,
    /// The connection to MySQL.
    #[command(flatten)]
    pub mysql: MySqlArgs,
    /// The time zone of the devices.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// The action.
    #[command(subcommand)]
    pub action: AdoptAction,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// An action of `worker adopt`.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum AdoptAction {
    /// Show what is there, what `run` will do, and what keeps it from that. Changes nothing. The exit
    /// code is 1 if the tables cannot be adopted.
    Plan(PrintArgs),
    /// Copy the old rows beside the running services. After a stop, the same command continues. Run
    /// again, it copies what has come since.
    Run(AdoptRunArgs),
    /// Show how far the copies are.
    Status(PrintArgs),
    /// Compare the old rows with the adopted ones. The exit code is 0 if all are there, 1 if not, and 3
    /// if a server did not answer.
    Compare(CompareArgs),
}

/// The form of the output.
#[derive(Debug, Clone, clap::Args)]
pub struct PrintArgs {
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Settings of `worker adopt run`.
#[derive(Debug, Clone, clap::Args)]
pub struct AdoptRunArgs {
    /// After the copies, move the tables of this system into the database of the earlier server, in the
    /// place of its tables, by one statement. Stop the earlier server's writers and the workers first.
    #[arg(long)]
    pub cut_over: bool,
    /// The monthly job that renames the main table runs outside of MySQL and is stopped for good.
    #[arg(long, requires = "cut_over")]
    pub monthly_job_stopped: bool,
    /// Copy all rows again, from the first one. Rows that are adopted already take the old values.
    #[arg(long)]
    pub again: bool,
    /// Longest wait for readers of the tables that the cut-over renames.
    #[arg(long, default_value = "5m", value_parser = duration)]
    pub lock_timeout: Duration,
}

/// Settings of `worker adopt compare`.
#[derive(Debug, Clone, clap::Args)]
pub struct CompareArgs {
    /// Part of the rows to compare, in percent, spread evenly.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub sample: u8,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

impl AdoptArgs {
    /// Returns the exit code of a command that ends with an error.
    pub fn exit_code_of_error(&self) -> u8 {
        match self.action {
            AdoptAction::Compare(_) => crate::commands::audit::EXIT_UNKNOWN,
            _ => 1,
        }
    }

    pub(crate) fn validate(&self, problems: &mut Problems) {
        self.mysql.validate(problems);
        self.telemetry.validate(problems);
        let named = self.from_database.as_deref().is_none_or(|name| {
            let length = 1..=DATABASE_CHARS_MAX;
            length.contains(&name.chars().count()) && !name.contains(['`', '.', '/', '\\'])
        });
        problems.require(named, || "--from-database must be the name of a database".into());
        problems.require((RATE_MIN..=RATE_MAX).contains(&self.rows_per_second), || {
            format!("--rows-per-second must lie between {RATE_MIN} and {RATE_MAX}")
        });
        if let AdoptAction::Run(run) = &self.action {
            problems.require(!run.cut_over || self.from_database.is_some(), || {
                "--cut-over needs --from-database: it moves tables into that database".into()
            });
        }
    }
}
