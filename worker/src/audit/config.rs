//! Settings of `worker audit`.

use std::time::Duration;

use common::config::{Problems, ZoneArgs, duration};
use common::kafka::KafkaArgs;
use common::mysql::MySqlArgs;
use common::telemetry::TelemetryArgs;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Settings of `worker audit`.
#[derive(Debug, Clone, clap::Args)]
pub struct AuditConfig {
    /// The connection to Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Consumer group whose ledger is audited.
    #[arg(long, env = "CONSUMER_GROUP", default_value = "worker")]
    pub group: String,
    /// The connection to MySQL.
    #[command(flatten)]
    pub mysql: MySqlArgs,
    /// The devices' zone.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Look for each reading received from then on, as `yyyy-MM-dd HH:mm:ss` in the devices' zone or
    /// RFC 3339.
    #[arg(long, value_parser = When::parse)]
    pub from: Option<When>,
    /// Look for each reading received before then.
    #[arg(long, value_parser = When::parse)]
    pub to: Option<When>,
    /// Look for each reading of this device.
    #[arg(long)]
    pub device: Option<String>,
    /// How long the audit may take until it counts as not judged.
    #[arg(long, env = "AUDIT_TIMEOUT", default_value = "10m", value_parser = duration)]
    pub timeout: Duration,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

impl AuditConfig {
    pub(crate) fn validate(&self, problems: &mut Problems) {
        self.kafka.validate(problems);
        self.mysql.validate(problems);
        self.telemetry.validate(problems);
        problems.require(!self.group.is_empty() && self.group.len() <= 64, || {
            "--group must have 1 to 64 characters".into()
        });
        let zone = &self.zone.zone;
        let ordered = match (self.from, self.to) {
            (Some(from), Some(to)) => from.at_ms(zone) < to.at_ms(zone),
            _ => true,
        };
        problems.require(ordered, || "--from must lie before --to".into());
    }
}

/// A moment as an operator writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// With an offset of its own.
    Instant(Timestamp),
    /// On the devices' wall clock.
    Wall(DateTime),
}

impl When {
    /// Reads a moment.
    pub fn parse(text: &str) -> Result<Self, String> {
        let instant = text.parse().map(Self::Instant).ok();
        instant.or_else(|| text.parse().map(Self::Wall).ok()).ok_or_else(|| {
            "write a time such as 2025-09-02 16:09:00 or 2025-09-02T16:09:00+08:00".to_owned()
        })
    }

    /// Milliseconds since 1970; a wall clock that stands twice means the earlier moment.
    pub fn at_ms(self, zone: &TimeZone) -> i64 {
        match self {
            Self::Instant(at) => at.as_millisecond(),
            Self::Wall(at) => zone
                .to_ambiguous_timestamp(at)
                .compatible()
                .map_or(i64::MAX, Timestamp::as_millisecond),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_in_the_devices_zone_unless_it_brings_its_own() {
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        for text in ["2025-09-02 16:09:00", "2025-09-02T08:09:00Z", "2025-09-02T10:09:00+02:00"] {
            assert_eq!(When::parse(text).unwrap().at_ms(&zone), 1_756_800_540_000, "{text}");
        }
        assert!(When::parse("yesterday").is_err());
    }
}
