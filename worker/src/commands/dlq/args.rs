//! Settings of `worker dlq`.

use std::time::Duration;

use ljwx_ledger::mysql::MySqlArgs;
use ljwx_service::config::{Problems, TimeArg, ZoneArgs, duration};
use ljwx_service::kafka::KafkaArgs;
use ljwx_service::telemetry::TelemetryArgs;
use secrecy::SecretString;

/// Settings of `worker dlq`.
#[derive(Debug, Clone, clap::Args)]
pub struct DlqArgs {
    /// The connection to Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Consumer group of the dead letters: the workers', or the alerters'.
    #[arg(long, env = "WORKER_GROUP", default_value = "worker", global = true)]
    pub group: String,
    /// Topic to use: deliveries that could not be stored, or items that could not become a reading.
    #[arg(long, value_enum, default_value = "dead-letters", global = true)]
    pub topic: KeptTopic,
    /// The time zone of the devices.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// The filter.
    #[command(flatten)]
    pub filter: DlqFilterArgs,
    /// The action.
    #[command(subcommand)]
    pub action: DlqAction,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// A topic of records that were not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum KeptTopic {
    /// Records of the readings topic that could not be stored.
    DeadLetters,
    /// Items that could not become a reading.
    Rejects,
}

/// Filter of the records; unset: all records.
#[derive(Debug, Clone, clap::Args)]
pub struct DlqFilterArgs {
    /// Only dead letters of this class (undecodable, tombstone, data), or rejects with this code.
    #[arg(long, global = true)]
    pub class: Option<String>,
    /// Only records of this device.
    #[arg(long, global = true)]
    pub device: Option<String>,
    /// Only records received at this time or later, as `yyyy-MM-dd HH:mm:ss` in the devices' time
    /// zone or RFC 3339.
    #[arg(long, value_parser = TimeArg::parse, global = true)]
    pub from: Option<TimeArg>,
    /// Only records received before this time.
    #[arg(long, value_parser = TimeArg::parse, global = true)]
    pub to: Option<TimeArg>,
}

/// An action of `worker dlq`.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum DlqAction {
    /// Print one line per record: position, time, device and reason.
    List {
        /// Most lines.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Print one complete record, with its headers.
    Show {
        /// Partition of the record.
        partition: i32,
        /// Offset of the record.
        offset: i64,
    },
    /// Send records through the readings topic again, to all groups. After a stop the same command
    /// continues.
    Replay(ReplayArgs),
    /// Delete the records received before --to. Kafka deletes only from the beginning of a topic.
    Purge(PurgeArgs),
}

/// Settings of `worker dlq replay`.
#[derive(Debug, Clone, clap::Args)]
pub struct ReplayArgs {
    /// Print only what would be sent.
    #[arg(long)]
    pub dry_run: bool,
    /// Most records per second.
    #[arg(long, default_value_t = 100)]
    pub rate: u32,
    /// Skip records that were replayed this many times.
    #[arg(long, default_value_t = 3)]
    pub max_replays: u32,
    /// Name that keeps the position of this replay, for each filter its own; another name starts
    /// at the beginning.
    #[arg(long, default_value = "replay")]
    pub name: String,
}

/// Settings of `worker dlq purge`.
#[derive(Debug, Clone, clap::Args)]
pub struct PurgeArgs {
    /// Delete the records; unset: print only how many would be deleted.
    #[arg(long)]
    pub execute: bool,
    /// MySQL or MariaDB with the ledger, as `worker audit` takes it. It records the purged dead
    /// letters; rejects need none.
    #[arg(long, env = "MYSQL_URL", hide_env_values = true)]
    pub mysql_url: Option<SecretString>,
    /// Longest wait for a connection to MySQL.
    #[arg(long, env = "MYSQL_ACQUIRE_TIMEOUT", default_value = "5s", value_parser = duration)]
    pub mysql_acquire_timeout: Duration,
    /// Longest time of one statement.
    #[arg(long, env = "MYSQL_STATEMENT_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub mysql_statement_timeout: Duration,
}

/// Connections of a purge: the fewest that the settings of MySQL allow.
const PURGE_CONNECTIONS: u32 = 2;

impl PurgeArgs {
    /// Returns the settings of the connection to MySQL, if there is a URL.
    pub(crate) fn mysql(&self) -> Option<MySqlArgs> {
        Some(MySqlArgs {
            url: self.mysql_url.clone()?,
            pool_size: PURGE_CONNECTIONS,
            acquire_timeout: self.mysql_acquire_timeout,
            statement_timeout: self.mysql_statement_timeout,
        })
    }
}

impl DlqArgs {
    /// Adds the errors of the settings to `problems`.
    pub(crate) fn validate(&self, problems: &mut Problems) {
        self.kafka.validate(problems);
        self.telemetry.validate(problems);
        problems.check_group(&self.group, "WORKER_GROUP");
        match &self.action {
            DlqAction::Replay(replay) => {
                problems.require(replay.rate >= 1, || "--rate must be at least 1".into());
                problems.require(!replay.name.is_empty(), || "--name must not be empty".into());
            }
            DlqAction::Purge(purge) => {
                let filter = &self.filter;
                let other =
                    filter.class.is_some() || filter.device.is_some() || filter.from.is_some();
                problems.require(filter.to.is_some() && !other, || {
                    "purge takes --to and no other filter: a topic can only be cut at its beginning"
                        .into()
                });
                let recorded = purge.execute && self.topic == KeptTopic::DeadLetters;
                match purge.mysql().filter(|_| recorded) {
                    Some(mysql) => mysql.validate(problems),
                    None => problems.require(!recorded, || {
                        "a purge of dead letters needs --mysql-url: the audit would miss the \
                         letters that it does not record there"
                            .into()
                    }),
                }
            }
            DlqAction::List { .. } | DlqAction::Show { .. } => {}
        }
    }

    /// Returns the name of the topic.
    pub(crate) fn topic_name(&self) -> String {
        match self.topic {
            KeptTopic::DeadLetters => self.kafka.dead_letter_topic(&self.group),
            KeptTopic::Rejects => self.kafka.rejects_topic.clone(),
        }
    }
}
