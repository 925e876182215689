//! Commands and settings of the worker.

use std::time::Duration;

use clap::Parser;
use ljwx_ledger::group::delivery::DeliveryLoad;
use ljwx_ledger::group::settings::{DeliveryMemory, GroupArgs};
use ljwx_ledger::mysql::MySqlArgs;
use ljwx_ledger::redis::{OptionalRedisArgs, RedisArgs};
use ljwx_service::config::{CompletionsArgs, Problems, Validate, ZoneArgs, duration};
use ljwx_service::http::admin::AdminArgs;
use ljwx_service::kafka::KafkaArgs;
use ljwx_service::lifecycle::LifecycleArgs;
use ljwx_service::link::ConnectionSecurity;
use ljwx_service::telemetry::TelemetryArgs;
use secrecy::SecretString;

use crate::batch::buffer::BufferLimits;
use crate::batch::room::Room;
use crate::batch::size::BatchSizeLimits;
use crate::canary::CanaryArgs;
use crate::commands::adopt::AdoptArgs;
use crate::commands::audit::AuditArgs;
use crate::commands::dlq::DlqArgs;
use crate::commands::migrate::MigrateArgs;
use crate::commands::offsets::OffsetsArgs;
use crate::commands::pause::PauseArgs;
use crate::commands::privacy::{EraseArgs, SubjectArgs};
use crate::commands::status::StatusArgs;
use crate::commands::where_is::WhereArgs;
use crate::dead_letter::breaker::BreakerLimits;

/// Store readings from Kafka in MySQL, account for each of them, and keep the latest in Redis.
#[derive(Debug, Parser)]
#[command(name = "worker", version = ljwx_service::VERSION)]
pub enum Config {
    /// Run one replica; start at most one replica per partition.
    Run(Box<RunConfig>),
    /// Create what is missing: tables, their months, and the Kafka topics. A second run changes
    /// nothing.
    Migrate(Box<MigrateArgs>),
    /// Take over the tables of an earlier server: plan, copy beside the running services, compare.
    Adopt(Box<AdoptArgs>),
    /// Tell whether all is well: ledger, lag, owners, dead letters, replicas. The exit code is 0 if so,
    /// 1 if not, and 3 if that is unknown.
    Status(Box<StatusArgs>),
    /// Check that every reading is accounted for. The exit code is 0 if so, 1 if not, and 3 if a
    /// server did not answer.
    Audit(Box<AuditArgs>),
    /// Tell what became of one reading: records, dead letters, row, Redis, alerts. The exit code is 0
    /// if it was found, 1 if not, and 3 if a part is unknown.
    Where(Box<WhereArgs>),
    /// Show the positions of the group, or move them: to an offset, a time, the end or the start.
    Offsets(Box<OffsetsArgs>),
    /// Pause a group until `worker resume`: all its replicas, across restarts.
    Pause(Box<PauseArgs>),
    /// Resume the consumption of a paused group.
    Resume(Box<PauseArgs>),
    /// List dead letters and rejects, show them, replay them, or delete old ones.
    Dlq(Box<DlqArgs>),
    /// Erase what is stored of a device or a user. Kafka's topics keep their records until their
    /// retention.
    Erase(Box<EraseArgs>),
    /// Write what is stored of a device or a user to standard output, one JSON document a line. The
    /// exit code is 0 if there was anything, 1 if not, and 3 if a server did not answer.
    Export(Box<SubjectArgs>),
    /// Print completions of this program for a shell.
    Completions(CompletionsArgs),
}

/// Settings of `worker run`.
#[derive(Debug, Clone, clap::Args)]
pub struct RunConfig {
    /// The admin port.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// The connection to Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Consumer group. The ledger has one row for each of its partitions.
    #[arg(long, env = "WORKER_GROUP", default_value = "worker")]
    pub group: String,
    /// The membership of this replica in the group.
    #[command(flatten)]
    pub member: GroupArgs,
    /// The connection to MySQL.
    #[command(flatten)]
    pub mysql: MySqlArgs,
    /// MySQL or MariaDB, as `--mysql-url`, with an account that may alter tables. It adds and drops
    /// the months of the main table; unset: the account of `--mysql-url` does.
    #[arg(long, env = "MAINTENANCE_MYSQL_URL", hide_env_values = true)]
    pub maintenance_mysql_url: Option<SecretString>,
    /// The connection to Redis.
    #[command(flatten)]
    pub redis: OptionalRedisArgs,
    /// Use no Redis, for a replica that writes to MySQL only. Else --redis-url must be set.
    #[arg(long, env = "NO_REDIS")]
    pub no_redis: bool,
    /// Most devices in one call to Redis.
    #[arg(long, env = "REDIS_DEVICES_MAX", default_value_t = 100)]
    pub redis_devices_max: usize,
    /// Time for which a device's hash stays in Redis without a new reading; unset: for ever.
    #[arg(long, env = "REDIS_TTL", value_parser = duration)]
    pub redis_ttl: Option<Duration>,
    /// The time zone of the devices.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Rows that make a batch due, 1 to 1000; unset: 50 to 1000, adapted to the times of the last
    /// batches.
    #[arg(long, env = "BATCH_ROWS")]
    pub batch_rows: Option<usize>,
    /// Bytes of readings that make a batch due.
    #[arg(long, env = "BATCH_BYTES", default_value_t = 1024 * 1024)]
    pub batch_bytes: usize,
    /// Age that makes a batch due: the longest wait of a lone reading for more rows; shorter if the
    /// database is fast.
    #[arg(long, env = "BATCH_AGE", default_value = "25ms", value_parser = duration)]
    pub batch_age: Duration,
    /// Most batches of different partitions that are written at the same time.
    #[arg(long, env = "BATCHES_IN_FLIGHT", default_value_t = 4)]
    pub batches_in_flight: usize,
    /// Largest share of dead letters in 10 minutes, 0 to 1; above it, batches wait instead.
    #[arg(long, env = "DEAD_LETTER_RATIO_MAX", default_value_t = 0.05)]
    pub dead_letter_ratio_max: f64,
    /// Most consecutive dead letters; above this number, batches wait instead.
    #[arg(long, env = "DEAD_LETTERS_CONSECUTIVE_MAX", default_value_t = 1000)]
    pub dead_letters_consecutive_max: usize,
    /// Age in days above which months of the main table are dropped; unset: they are kept for ever.
    #[arg(long, env = "RETENTION_DAYS")]
    pub retention_days: Option<u32>,
    /// Age in days above which rows of the daily table are removed; unset: they are kept for ever.
    #[arg(long, env = "DAILY_RETENTION_DAYS")]
    pub daily_retention_days: Option<u32>,
    /// Age in days, of the last day of the week, above which rows of the weekly table are removed;
    /// unset: they are kept for ever.
    #[arg(long, env = "WEEKLY_RETENTION_DAYS")]
    pub weekly_retention_days: Option<u32>,
    /// The canary.
    #[command(flatten)]
    pub canary: CanaryArgs,
    /// The shutdown.
    #[command(flatten)]
    pub lifecycle: LifecycleArgs,
    /// Logs and spans.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// Most rows of one statement.
const BATCH_ROWS_MAX: usize = 1000;

/// A batch may exceed its size by one segment. Both databases take 16 MiB and more.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// `EXPIRE` takes whole seconds.
const REDIS_TTL_MIN: Duration = Duration::from_secs(1);

/// Connections for the months and the retention of documents, beside the one whose statements may
/// wait for hours. Two remove documents. The third counts rows while a month is dropped.
const MAINTENANCE_CONNECTIONS: u32 = 3;

/// Full batches of deliveries in memory, for each batch in flight.
const BUFFERED_BATCHES: usize = 4;

/// Most deliveries in memory with those of stuck lanes, in times of the others' room. The
/// difference exceeds what waits for the buffer, which may all belong to one stuck lane.
const ROOM_WITH_STUCK: usize = 2;

impl RunConfig {
    /// Returns the connection that maintains the months, if they have an account of their own.
    pub(crate) fn maintenance_mysql(&self) -> Option<MySqlArgs> {
        let url = self.maintenance_mysql_url.clone()?;
        Some(MySqlArgs { url, pool_size: MAINTENANCE_CONNECTIONS, ..self.mysql.clone() })
    }

    /// Returns how that connection is secured.
    pub(crate) fn maintenance_link(&self) -> Option<ConnectionSecurity> {
        let link = self.maintenance_mysql()?.link()?;
        Some(ConnectionSecurity { dependency: "mysql_maintenance", ..link })
    }

    /// Returns the connection to Redis; `None` for a replica that uses no Redis.
    pub(crate) fn used_redis(&self) -> Option<RedisArgs> {
        self.redis.args().filter(|_| !self.no_redis)
    }

    /// Returns the limits of the dead-letter breaker.
    pub(crate) fn breaker(&self) -> BreakerLimits {
        BreakerLimits {
            ratio_max: self.dead_letter_ratio_max,
            consecutive_max: self.dead_letters_consecutive_max,
        }
    }

    /// Returns the memory for deliveries.
    pub(crate) fn delivery_memory(&self) -> DeliveryMemory {
        DeliveryMemory::within(self.telemetry.memory_limit())
    }

    /// Returns the limits of the buffer at the start.
    pub(crate) fn limits(&self) -> BufferLimits {
        let rows_max = self.batch_rows.unwrap_or(BATCH_ROWS_MAX);
        let max = DeliveryLoad {
            deliveries: rows_max * self.batches_in_flight * BUFFERED_BATCHES,
            bytes: self.delivery_memory().pipeline / ROOM_WITH_STUCK,
        };
        let all_max = DeliveryLoad {
            deliveries: max.deliveries * ROOM_WITH_STUCK,
            bytes: max.bytes * ROOM_WITH_STUCK,
        };
        BufferLimits {
            batch_rows: rows_max,
            batch_bytes: self.batch_bytes,
            batch_age: self.batch_age,
            fast_age: self.batch_age,
            room: Room { max, all_max },
        }
    }

    /// Returns the most batches in flight, held ones included. One connection is left to everything
    /// else.
    pub(crate) fn batches_max(&self) -> usize {
        (self.mysql.pool_size as usize).saturating_sub(1).max(self.batches_in_flight)
    }

    /// Returns the limits of the adaptive batch size.
    pub(crate) fn adaptive(&self) -> BatchSizeLimits {
        BatchSizeLimits {
            rows_fixed: self.batch_rows,
            in_flight_max: self.batches_in_flight,
            age_max: self.batch_age,
        }
    }

    fn validate(&self, problems: &mut Problems) {
        self.kafka.validate(problems);
        self.member.validate(problems);
        self.mysql.validate(problems);
        if let Some(mysql) = self.maintenance_mysql() {
            mysql.validate_url("--maintenance-mysql-url", problems);
        }
        match self.used_redis() {
            Some(redis) => redis.validate(problems),
            None => problems.require(self.no_redis, || {
                "--redis-url is missing: set REDIS_URL, or NO_REDIS=true for MySQL only".into()
            }),
        }
        self.canary.validate(problems);
        self.lifecycle.validate(problems);
        self.telemetry.validate(problems);
        self.admin.validate(problems);
        let rows = 1..=BATCH_ROWS_MAX;
        problems.require(self.batch_rows.is_none_or(|fixed| rows.contains(&fixed)), || {
            format!("--batch-rows must lie between 1 and {BATCH_ROWS_MAX}")
        });
        problems.require((1024..=BATCH_BYTES_MAX).contains(&self.batch_bytes), || {
            format!("--batch-bytes must lie between 1024 and {BATCH_BYTES_MAX}")
        });
        problems.require(self.batches_in_flight >= 1, || {
            "--batches-in-flight must be at least 1".into()
        });
        problems.require(self.mysql.pool_size as usize > self.batches_in_flight, || {
            "--mysql-pool-size must be larger than --batches-in-flight".into()
        });
        problems.require((0.0..=1.0).contains(&self.dead_letter_ratio_max), || {
            "--dead-letter-ratio-max must lie between 0 and 1".into()
        });
        problems.require(self.redis_devices_max >= 1 && self.redis_devices_max <= 500, || {
            "--redis-devices-max must lie between 1 and 500".into()
        });
        problems.require(self.redis_ttl.is_none_or(|ttl| ttl >= REDIS_TTL_MIN), || {
            "--redis-ttl must be at least 1s".into()
        });
        problems.check_group(&self.group, "WORKER_GROUP");
    }
}

impl Validate for Config {
    fn validate(&self, problems: &mut Problems) {
        match self {
            Self::Run(config) => config.validate(problems),
            Self::Adopt(config) => config.validate(problems),
            Self::Status(config) => config.validate(problems),
            Self::Audit(config) => config.validate(problems),
            Self::Where(config) => config.validate(problems),
            Self::Offsets(config) => config.validate(problems),
            Self::Dlq(config) => config.validate(problems),
            Self::Erase(config) => config.validate(problems),
            Self::Export(config) => config.validate(problems),
            Self::Pause(config) | Self::Resume(config) => config.validate(problems),
            Self::Migrate(config) => config.validate(problems),
            Self::Completions(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;
    use ljwx_service::config::{ConfigError, reference};

    use super::*;

    fn problems(arguments: &[&str]) -> Vec<String> {
        let given = ["worker", "run", "--kafka-brokers", "k:9092", "--mysql-url", "mysql://u@h/d"];
        let arguments = given.iter().chain(arguments).map(Into::into).collect();
        match ljwx_service::config::parse::<Config>(arguments) {
            Ok(_) => Vec::new(),
            Err(ConfigError::Problems(problems)) => problems.list().to_vec(),
            Err(ConfigError::Clap(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Config::command().debug_assert();
    }

    #[test]
    fn the_documented_settings_and_exit_codes_are_those_of_the_commands() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        reference::hold_documents::<Config>(&docs).unwrap();
    }

    #[test]
    fn a_replica_without_redis_needs_no_url_and_any_other_one_does() {
        for (arguments, named) in [
            (&["--redis-url", ""][..], Some("--redis-url is missing")),
            (&["--redis-url", "http://h"], Some("--redis-url: must read")),
            (&["--redis-url", "redis://h:1"], None),
            (&["--redis-url", "", "--no-redis"], None),
            (&["--redis-url", "http://h", "--no-redis"], None),
        ] {
            let found = problems(arguments);
            assert_eq!(found.len(), usize::from(named.is_some()), "{arguments:?}: {found:?}");
            assert!(
                found.iter().zip(named).all(|(found, named)| found.contains(named)),
                "{arguments:?}: {found:?}"
            );
        }
    }
}
