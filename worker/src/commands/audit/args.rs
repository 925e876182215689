//! Settings of `worker audit`.

use std::time::Duration;

use ljwx_ledger::mysql::MySqlArgs;
use ljwx_service::config::{Problems, TimeArg, ZoneArgs, duration};
use ljwx_service::kafka::KafkaArgs;
use ljwx_service::telemetry::TelemetryArgs;

/// Settings of `worker audit`.
#[derive(Debug, Clone, clap::Args)]
pub struct AuditArgs {
    /// The connection to Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Consumer group whose ledger is audited.
    #[arg(long, env = "WORKER_GROUP", default_value = "worker")]
    pub group: String,
    /// The connection to MySQL.
    #[command(flatten)]
    pub mysql: MySqlArgs,
    /// The time zone of the devices.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Look up each reading received at this time or later, as `yyyy-MM-dd HH:mm:ss` in the
    /// devices' time zone or RFC 3339.
    #[arg(long, value_parser = TimeArg::parse)]
    pub from: Option<TimeArg>,
    /// Look up each reading received before this time.
    #[arg(long, value_parser = TimeArg::parse)]
    pub to: Option<TimeArg>,
    /// Look up each reading of this device.
    #[arg(long)]
    pub device: Option<String>,
    /// Count all rows of the main table anew. Without it, only those that came after the last audit
    /// are counted. An interrupted count is continued by the next audit.
    #[arg(long)]
    pub full: bool,
    /// Time limit of the audit, after which it has no result.
    #[arg(long, env = "AUDIT_TIMEOUT", default_value = "10m", value_parser = duration)]
    pub timeout: Duration,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

impl AuditArgs {
    pub(crate) fn validate(&self, problems: &mut Problems) {
        self.kafka.validate(problems);
        self.mysql.validate(problems);
        self.telemetry.validate(problems);
        problems.check_group(&self.group, "WORKER_GROUP");
        let zone = &self.zone.zone;
        let ordered = match (self.from, self.to) {
            (Some(from), Some(to)) => from.at_ms(zone) < to.at_ms(zone),
            _ => true,
        };
        problems.require(ordered, || "--from must lie before --to".into());
    }
}
