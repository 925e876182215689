//! Settings of a group's member, and the client settings that the ledger depends on.
//!
//! Leaves the connection to `KafkaArgs`.

use std::time::Duration;

use rdkafka::ClientConfig;

use ljwx_service::config::{Problems, duration};

/// Interval of a member's heartbeats. A process may freeze for the shortest session less this
/// interval without losing its partitions.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Most memory of fetched records that wait in the consumer, in KiB.
const FETCHED_KBYTES_MAX: &str = "32768";

/// Bytes that a fetch waits for. Without this wait, 2,200 readings a second are as many fetches.
/// They keep half a core busy in Kafka and a quarter in the alerter.
const FETCH_BYTES_MIN: &str = "100000";

/// How long a fetch waits for these bytes, in milliseconds: the delay of a lone reading. At that
/// rate, 10 ms would cost a tenth of a core more.
const FETCH_WAIT_MS_MAX: &str = "25";

/// How long the polling thread may be busy with a rebalance. The limit is far beyond the claims and
/// the drain of one rebalance: otherwise the group would expel a member that only drains.
const POLL_INTERVAL_MAX: Duration = Duration::from_secs(300);

/// The way in which the members of a group divide the partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum GroupProtocol {
    /// Members assign, one partition moves at a time; every broker supports it.
    Classic,
    /// The broker assigns (KIP-848); needs brokers from 4.0 on.
    Consumer,
}

/// Settings of a consumer group's member.
#[derive(Debug, Clone, clap::Args)]
pub struct GroupArgs {
    /// Protocol that assigns partitions; the same for all members of a group.
    #[arg(long, env = "GROUP_PROTOCOL", value_enum, default_value = "classic")]
    pub group_protocol: GroupProtocol,
    /// Stable name of this replica, such as worker-0. A restart within the session timeout then
    /// moves no partition. Unset: every start is a new member.
    #[arg(long, env = "GROUP_INSTANCE_ID")]
    pub group_instance_id: Option<String>,
    /// Longest silence of a replica before its partitions go to others. With the consumer protocol
    /// the brokers' group.consumer.session.timeout.ms decides, which should be as short.
    #[arg(long, env = "SESSION_TIMEOUT", default_value = "6s", value_parser = duration)]
    pub session_timeout: Duration,
}

impl GroupArgs {
    /// Adds the problems of these settings.
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
            // librdkafka rejects session settings here, because the broker decides them.
            GroupProtocol::Consumer => config.set("group.protocol", "consumer"),
        };
        if let Some(id) = &self.group_instance_id {
            config.set("group.instance.id", id);
        }
    }
}

/// The configuration of a group's member.
#[derive(Debug)]
pub struct GroupConsumerConfig {
    /// The connection.
    pub client: ClientConfig,
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The member's settings.
    pub member: GroupArgs,
    /// Whether every delivery carries a copy of its record. An undecodable delivery always does,
    /// because it is dead-lettered.
    pub keeps_records: bool,
    /// Most deliveries that may wait for the pipeline.
    pub waiting_max: usize,
}

impl GroupConsumerConfig {
    /// Returns the client's settings: the connection, the member, and what the ledger depends on.
    pub(super) fn client_config(&self) -> ClientConfig {
        let mut client = self.client.clone();
        self.member.apply(&mut client);
        client
            .set("group.id", &self.group)
            // A position outside the topic is an error to examine. A reset would hide it.
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
