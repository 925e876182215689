//! Settings of a group's member, and the client's settings that the ledger relies on.
//!
//! Leaves the connection to `KafkaArgs`.

use std::time::Duration;

use rdkafka::ClientConfig;

use ljwx_service::config::{Problems, duration};

/// How often a member says that it is alive. The shortest session less this is how long a process
/// may freeze at no cost: its last heartbeat is at most so old when it begins.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Memory of fetched records that wait in the consumer, in KiB.
const FETCHED_KBYTES_MAX: &str = "32768";

/// Bytes that a fetch waits for. Fetched as they come, 2,200 readings a second are as many fetches, and
/// keep half a core busy in Kafka and a quarter in the alerter.
const FETCH_BYTES_MIN: &str = "100000";

/// How long it waits for them, in milliseconds: what a lone reading pays. Ten cost a tenth of a core
/// more at that rate.
const FETCH_WAIT_MS_MAX: &str = "25";

/// How long the polling thread may be busy with a rebalance. Far beyond the claims and the drain that
/// one takes, or the group would give up a member that is only careful.
const POLL_INTERVAL_MAX: Duration = Duration::from_secs(300);

/// How members of a group agree on who has which partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum GroupProtocol {
    /// Members assign, one partition moves at a time; every broker knows it.
    Classic,
    /// The broker assigns (KIP-848); brokers from 4.0 on.
    Consumer,
}

/// Settings of a consumer group's member.
#[derive(Debug, Clone, clap::Args)]
pub struct GroupArgs {
    /// Who assigns partitions; all members of a group must agree.
    #[arg(long, env = "GROUP_PROTOCOL", value_enum, default_value = "classic")]
    pub group_protocol: GroupProtocol,
    /// Stable name of this replica, such as worker-0: a restart within the session timeout then
    /// moves no partition. Unset: every start is a new member.
    #[arg(long, env = "GROUP_INSTANCE_ID")]
    pub group_instance_id: Option<String>,
    /// How long a replica may be silent before its partitions go to others; with the consumer
    /// protocol the brokers' group.consumer.session.timeout.ms decides, which should be as short.
    #[arg(long, env = "SESSION_TIMEOUT", default_value = "6s", value_parser = duration)]
    pub session_timeout: Duration,
}

impl GroupArgs {
    /// Notes what is wrong with the settings.
    pub fn validate(&self, problems: &mut Problems) {
        let range = Duration::from_secs(6)..=Duration::from_secs(300);
        problems.require(range.contains(&self.session_timeout), || {
            "--session-timeout must lie between 6s and 5m, as the brokers want it".into()
        });
    }

    fn apply(&self, config: &mut ClientConfig) {
        match self.group_protocol {
            GroupProtocol::Classic => config
                .set("session.timeout.ms", self.session_timeout.as_millis().to_string())
                .set("heartbeat.interval.ms", HEARTBEAT_INTERVAL.as_millis().to_string())
                .set("partition.assignment.strategy", "cooperative-sticky"),
            // The client is refused where it sets what the broker decides.
            GroupProtocol::Consumer => config.set("group.protocol", "consumer"),
        };
        if let Some(id) = &self.group_instance_id {
            config.set("group.instance.id", id);
        }
    }
}

/// What a source is made of.
#[derive(Debug)]
pub struct SourceConfig {
    /// The connection.
    pub client: ClientConfig,
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The member's settings.
    pub member: GroupArgs,
    /// Whether deliveries hold their records: a copy that only those need who pass records on.
    pub keeps_records: bool,
    /// Deliveries that may wait for the pipeline.
    pub waiting_max: usize,
}

impl SourceConfig {
    /// The client's settings: the connection, the member, and what the ledger relies on.
    pub(super) fn client_config(&self) -> ClientConfig {
        let mut client = self.client.clone();
        self.member.apply(&mut client);
        client
            .set("group.id", &self.group)
            // A position outside the topic is a fact to be looked at, never a silent reset.
            .set("auto.offset.reset", "error")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "false")
            .set("max.poll.interval.ms", POLL_INTERVAL_MAX.as_millis().to_string())
            .set("queued.max.messages.kbytes", FETCHED_KBYTES_MAX)
            .set("fetch.min.bytes", FETCH_BYTES_MIN)
            .set("fetch.wait.max.ms", FETCH_WAIT_MS_MAX)
            .set("fetch.queue.backoff.ms", "20");
        client
    }
}
