//! Settings of `worker where`.

use std::time::Duration;

use jiff::Timestamp;
use ljwx_ledger::mysql::MySqlArgs;
use ljwx_ledger::redis::OptionalRedisArgs;
use ljwx_reading::{DeviceSn, wall_text};
use ljwx_service::config::{Problems, TimeArg, ZoneArgs, duration};
use ljwx_service::kafka::KafkaArgs;
use ljwx_service::telemetry::TelemetryArgs;

use super::answers::SoughtReading;

/// Longest `--timeout` and `--within`: 400 days, far above the retention of every topic.
const DURATION_MAX: Duration = Duration::from_secs(400 * 24 * 3600);

/// The first moment that a reading may have: 2000-01-01 in the easternmost time zone.
const AT_MS_MIN: i64 = 946_634_400_000;

/// The last moment that can be searched for: a day before the end of the calendar.
const AT_MS_MAX: i64 = 253_402_000_000_000;

/// What the help says below the settings.
const AFTER_HELP: &str = "The exit code is also 3 if nothing was found and older records of a \
    searched topic are deleted: one of them may have been the reading's.";

/// Settings of `worker where`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct WhereArgs {
    /// Serial number of the reading's device.
    #[arg(long)]
    pub device: String,
    /// Event time of the reading, as `yyyy-MM-dd HH:mm:ss` in the devices' time zone or RFC 3339.
    #[arg(long, value_parser = TimeArg::parse)]
    pub at: TimeArg,
    /// Search the readings topic for receipts up to this long after the reading's time. The search
    /// begins 24 hours before the reading's time.
    #[arg(long, default_value = "168h", value_parser = duration)]
    pub within: Duration,
    /// Search all partitions of the readings topic; unset: the partition of the device's key, and
    /// the positions that the row names.
    #[arg(long)]
    pub all_partitions: bool,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
    /// Time limit of the command. A part that is not read by then is unknown. MySQL and Redis get a
    /// quarter of the time.
    #[arg(long, env = "WHERE_TIMEOUT", default_value = "1m", value_parser = duration)]
    pub timeout: Duration,
    /// Consumer group of the workers.
    #[arg(long, env = "WORKER_GROUP", default_value = "worker")]
    pub group: String,
    /// The connection to Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// The connection to MySQL.
    #[command(flatten)]
    pub mysql: MySqlArgs,
    /// The connection to Redis.
    #[command(flatten)]
    pub redis: OptionalRedisArgs,
    /// The time zone of the devices.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

impl WhereArgs {
    pub(crate) fn validate(&self, problems: &mut Problems) {
        self.kafka.validate(problems);
        self.mysql.validate(problems);
        self.redis.validate(problems);
        self.telemetry.validate(problems);
        problems.check_group(&self.group, "WORKER_GROUP");
        problems.require(DeviceSn::new(&self.device).is_some(), || {
            "--device must be a serial number: 1 to 64 visible ASCII characters".into()
        });
        let at_ms = self.at.at_ms(&self.zone.zone);
        problems.require((AT_MS_MIN..=AT_MS_MAX).contains(&at_ms), || {
            "--at must lie between the years 2000 and 9999, as the times of readings do".into()
        });
        for (name, value) in [("--timeout", self.timeout), ("--within", self.within)] {
            problems.require(value <= DURATION_MAX, || format!("{name} must be at most 9600h"));
        }
    }

    /// Returns the reading to look for. Its time has whole seconds.
    pub(crate) fn sought(&self) -> SoughtReading {
        let zone = &self.zone.zone;
        let seconds = self.at.at_ms(zone).div_euclid(1000);
        let at = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        SoughtReading {
            device: self.device.clone(),
            time: wall_text(zone.to_datetime(at)),
            at_ms: at.as_millisecond(),
        }
    }
}
