//! Settings of `worker offsets`.

use ljwx_ledger::mysql::MySqlArgs;
use ljwx_service::config::{Problems, TimeArg, ZoneArgs};
use ljwx_service::kafka::KafkaArgs;
use ljwx_service::telemetry::TelemetryArgs;

/// Settings of `worker offsets`.
#[derive(Debug, Clone, clap::Args)]
pub struct OffsetsArgs {
    /// The connection to Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Consumer group whose positions are shown or moved.
    #[arg(long, env = "WORKER_GROUP", default_value = "worker")]
    pub group: String,
    /// The connection to MySQL.
    #[command(flatten)]
    pub mysql: MySqlArgs,
    /// The time zone of the devices.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Only this partition; may be given several times.
    #[arg(long = "partition")]
    pub partitions: Vec<i32>,
    /// Continue at this offset.
    #[arg(long, conflicts_with_all = ["to_time", "to_end", "to_start"])]
    pub to_offset: Option<i64>,
    /// Continue at the first reading received at this time or later, as `yyyy-MM-dd HH:mm:ss` in
    /// the devices' time zone or RFC 3339.
    #[arg(long, value_parser = TimeArg::parse, conflicts_with_all = ["to_end", "to_start"])]
    pub to_time: Option<TimeArg>,
    /// Continue at the end of the topic; everything before is skipped.
    #[arg(long, conflicts_with = "to_start")]
    pub to_end: bool,
    /// Reprocess everything that the topic still has.
    #[arg(long)]
    pub to_start: bool,
    /// Move the positions; unset: print only what would happen.
    #[arg(long)]
    pub execute: bool,
    /// Move the positions although the group has members; the members claim the partitions again
    /// and continue from the new positions.
    #[arg(long, requires = "execute")]
    pub force: bool,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// The target of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveTarget {
    /// An offset.
    Offset(i64),
    /// A time, in milliseconds since 1970.
    Time(i64),
    /// The end of the topic.
    End,
    /// The first record that the topic still has.
    Start,
}

impl OffsetsArgs {
    pub(crate) fn validate(&self, problems: &mut Problems) {
        self.kafka.validate(problems);
        self.mysql.validate(problems);
        self.telemetry.validate(problems);
        problems.check_group(&self.group, "WORKER_GROUP");
        problems.require(self.to_offset.is_none() || !self.partitions.is_empty(), || {
            "--to-offset needs --partition: offsets of different partitions have nothing in common"
                .into()
        });
        problems.require(!self.execute || self.target().is_some(), || {
            "--execute needs one of --to-offset, --to-time, --to-end and --to-start".into()
        });
    }

    /// Returns the target; `None`: only show the positions.
    pub(crate) fn target(&self) -> Option<MoveTarget> {
        let time = self.to_time.map(|when| MoveTarget::Time(when.at_ms(&self.zone.zone)));
        let end = self.to_end.then_some(MoveTarget::End);
        let start = self.to_start.then_some(MoveTarget::Start);
        self.to_offset.map(MoveTarget::Offset).or(time).or(end).or(start)
    }
}
