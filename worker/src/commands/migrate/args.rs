//! Settings of `worker migrate`.

use std::time::Duration;

use ljwx_ledger::mysql::MySqlArgs;
use ljwx_service::config::{Problems, ZoneArgs, duration};
use ljwx_service::kafka::KafkaArgs;
use ljwx_service::telemetry::TelemetryArgs;

/// Settings of `worker migrate`.
#[derive(Debug, Clone, clap::Args)]
pub struct MigrateArgs {
    /// The connection to Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Consumer groups whose dead-letter topics are to be created.
    #[arg(long = "group", env = "WORKER_GROUP", default_value = "worker", value_delimiter = ',')]
    pub groups: Vec<String>,
    /// Consumer group of the alerters, which has a dead-letter topic too.
    #[arg(long, env = "ALERTER_GROUP", default_value = "alerter")]
    pub alerter_group: String,
    /// The connection to MySQL.
    #[command(flatten)]
    pub mysql: MySqlArgs,
    /// The time zone of the devices.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Partitions of topics that are created; devices are spread over the partitions for good. A
    /// readings topic that was lost gets as many as were accepted, unless --accept-partitions is given.
    #[arg(long, env = "PARTITIONS", default_value_t = 12)]
    pub partitions: i32,
    /// Time limit of MySQL for all changes of its tables; tables with many rows take long.
    #[arg(long, env = "MIGRATE_TIMEOUT", default_value = "1h", value_parser = duration)]
    pub timeout: Duration,
    /// Accept that the readings topic has another number of partitions than before, once alerters
    /// have processed its former records: until then workers end. Moves the state of alerts to the
    /// devices' new partitions, so alerters must be stopped.
    #[arg(long)]
    pub accept_partitions: bool,
    /// Accept that the readings topic was deleted and recreated: every group continues with its
    /// first record. Readings that were acknowledged and not read before are lost with the former
    /// topic.
    #[arg(long)]
    pub accept_topic: bool,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

impl MigrateArgs {
    pub(crate) fn validate(&self, problems: &mut Problems) {
        self.kafka.validate(problems);
        self.mysql.validate(problems);
        self.telemetry.validate(problems);
        for group in &self.groups {
            problems.check_group(group, "WORKER_GROUP");
        }
        problems.check_group(&self.alerter_group, "ALERTER_GROUP");
        problems.require((1..=1000).contains(&self.partitions), || {
            "--partitions must lie between 1 and 1000".into()
        });
    }
}
