//! Settings of `worker erase` and `worker export`.

use std::time::Duration;

use ljwx_ledger::mysql::MySqlArgs;
use ljwx_ledger::redis::{OptionalRedisArgs, RedisArgs};
use ljwx_reading::DeviceSn;
use ljwx_service::config::{Problems, ZoneArgs, duration};
use ljwx_service::kafka::KafkaArgs;
use ljwx_service::telemetry::TelemetryArgs;

/// Exit code: nothing is stored, or nothing was erased.
pub const EXIT_NOTHING: u8 = 1;

/// Longest time of a statement that may read a whole table: not every table has an index by device or
/// user.
pub const SEARCH_TIMEOUT: Duration = Duration::from_secs(1800);

/// Longest `--silent-for`: 400 days, far above the retention of the readings topic.
const SILENT_FOR_MAX: Duration = Duration::from_secs(400 * 24 * 3600);

/// Whose data is meant, and the servers that have it. These are all settings of `worker export`.
#[derive(Debug, Clone, clap::Args)]
pub struct SubjectArgs {
    /// Serial number of the device whose data is meant.
    #[arg(long)]
    pub device: Option<String>,
    /// Number of the user whose data is meant, as the platform counts: all devices whose rows name
    /// the user. Of a device that others wore too, only rows that name the user.
    #[arg(long)]
    pub user: Option<i64>,
    /// Consumer group of the workers.
    #[arg(long, env = "WORKER_GROUP", default_value = "worker")]
    pub group: String,
    /// Consumer group of the alerters.
    #[arg(long, env = "ALERTER_GROUP", default_value = "alerter")]
    pub alerter_group: String,
    /// The connection to Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// The connection to MySQL.
    #[command(flatten)]
    pub mysql: MySqlArgs,
    /// The connection to Redis.
    #[command(flatten)]
    pub redis: OptionalRedisArgs,
    /// Use no Redis, because the workers use none. Else --redis-url must be set.
    #[arg(long, env = "NO_REDIS")]
    pub no_redis: bool,
    /// The time zone of the devices.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// What the help of `worker erase` says below the settings.
const AFTER_HELP: &str = "The exit code is 0 if the data was erased, or shown without --execute; 1 \
    if nothing is stored, or nothing was erased for the printed reason; and 3 if a server did not \
    answer: the same command then continues.";

/// Settings of `worker erase`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct EraseArgs {
    /// Whose data is to be erased.
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// Erase; unset: print only what would be erased.
    #[arg(long)]
    pub execute: bool,
    /// Erase although a device has sent records lately, or a group has not processed them yet. What
    /// they bring is stored again, and has to be erased again.
    #[arg(long, requires = "execute")]
    pub force: bool,
    /// Refuse if a device has sent a record within this time.
    #[arg(long, default_value = "15m", value_parser = duration)]
    pub silent_for: Duration,
}

impl SubjectArgs {
    /// Adds the errors of the settings to `problems`.
    pub(crate) fn validate(&self, problems: &mut Problems) {
        self.kafka.validate(problems);
        self.mysql.validate(problems);
        self.telemetry.validate(problems);
        match self.used_redis() {
            Some(redis) => redis.validate(problems),
            None => problems.require(self.no_redis, || {
                "--redis-url is missing: set REDIS_URL, or NO_REDIS=true if the workers use no Redis"
                    .into()
            }),
        }
        problems.check_group(&self.group, "WORKER_GROUP");
        problems.check_group(&self.alerter_group, "ALERTER_GROUP");
        problems.require(self.device.is_some() != self.user.is_some(), || {
            "name either --device or --user".into()
        });
        let device = self.device.as_deref();
        problems.require(device.is_none_or(|device| DeviceSn::new(device).is_some()), || {
            "--device must be a serial number: 1 to 64 visible ASCII characters".into()
        });
        problems.require(self.user.is_none_or(|user| user > 0), || {
            "--user must be a number above 0".into()
        });
    }

    /// Returns the connection to Redis; `None` if no Redis is used.
    pub(super) fn used_redis(&self) -> Option<RedisArgs> {
        self.redis.args().filter(|_| !self.no_redis)
    }

    /// Returns whose data is meant, as people read it.
    pub(super) fn name(&self) -> String {
        match (&self.device, self.user) {
            (Some(device), _) => format!("device {device}"),
            (None, user) => format!("user {}", user.unwrap_or_default()),
        }
    }
}

impl EraseArgs {
    /// Adds the errors of the settings to `problems`.
    pub(crate) fn validate(&self, problems: &mut Problems) {
        self.subject.validate(problems);
        problems.require(self.silent_for <= SILENT_FOR_MAX, || {
            "--silent-for must be at most 9600h".into()
        });
    }
}
