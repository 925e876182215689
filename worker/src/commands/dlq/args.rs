//! Settings of `worker dlq`.

use ljwx_service::config::{Problems, When, ZoneArgs};
use ljwx_service::kafka::KafkaArgs;
use ljwx_service::telemetry::TelemetryArgs;

/// Settings of `worker dlq`.
#[derive(Debug, Clone, clap::Args)]
pub struct DlqConfig {
    /// The connection to Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Consumer group whose dead letters are meant.
    #[arg(long, env = "WORKER_GROUP", default_value = "worker", global = true)]
    pub group: String,
    /// What to look at: what could not be stored, or what no reading could be made of.
    #[arg(long, value_enum, default_value = "dead-letters", global = true)]
    pub of: Kind,
    /// The devices' zone.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Only these.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// A topic of what did not get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Records of the readings topic that could not be stored.
    DeadLetters,
    /// What devices sent and no reading could be made of.
    Rejects,
}

/// Which records are meant; without any, all of them.
#[derive(Debug, Clone, clap::Args)]
pub struct FilterArgs {
    /// Only of this class (undecodable, data) or, of rejects, this code.
    #[arg(long, global = true)]
    pub class: Option<String>,
    /// Only of this device.
    #[arg(long, global = true)]
    pub device: Option<String>,
    /// Only received from then on, as `yyyy-MM-dd HH:mm:ss` in the devices' zone or RFC 3339.
    #[arg(long, value_parser = When::parse, global = true)]
    pub from: Option<When>,
    /// Only received before then.
    #[arg(long, value_parser = When::parse, global = true)]
    pub to: Option<When>,
}

/// What `worker dlq` does.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Action {
    /// One line a record: where, when, of which device, and why.
    List {
        /// Most lines.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// One record whole, with its headers.
    Show {
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
    },
    /// Send records back through the readings topic; a stop goes on where it stopped.
    Replay {
        /// Only say what would be sent.
        #[arg(long)]
        dry_run: bool,
        /// Most records a second.
        #[arg(long, default_value_t = 100)]
        rate: u32,
        /// Leave out what was replayed this often already.
        #[arg(long, default_value_t = 3)]
        max_replays: u32,
        /// Remembers how far this replay is; another name starts at the beginning.
        #[arg(long, default_value = "replay")]
        name: String,
    },
    /// Delete what was received before --to. Nothing else can be deleted from a topic's middle.
    Purge {
        /// Delete; without it only say what would be deleted.
        #[arg(long)]
        execute: bool,
    },
}

impl DlqConfig {
    /// Notes what is wrong with the settings.
    pub(crate) fn validate(&self, problems: &mut Problems) {
        self.kafka.validate(problems);
        self.telemetry.validate(problems);
        problems.check_group(&self.group, "WORKER_GROUP");
        match &self.action {
            Action::Replay { rate, name, .. } => {
                problems.require(*rate >= 1, || "--rate must be at least 1".into());
                problems.require(!name.is_empty(), || "--name must not be empty".into());
            }
            Action::Purge { .. } => {
                let filter = &self.filter;
                let other =
                    filter.class.is_some() || filter.device.is_some() || filter.from.is_some();
                problems.require(filter.to.is_some() && !other, || {
                    "purge takes --to and no other filter: a topic can only be cut at its beginning"
                        .into()
                });
            }
            Action::List { .. } | Action::Show { .. } => {}
        }
    }

    /// The topic meant.
    pub(crate) fn topic(&self) -> String {
        match self.of {
            Kind::DeadLetters => self.kafka.dead_letter_topic(&self.group),
            Kind::Rejects => self.kafka.rejects_topic.clone(),
        }
    }
}
