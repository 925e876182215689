//! Settings of a group's member, and the client settings that the ledger depends on.
//!
//! Leaves the connection to `KafkaArgs`.

use std::time::Duration;

use rdkafka::ClientConfig;

use ljwx_service::config::{Problems, duration};

/// Interval of a member's heartbeats. A process may freeze for the shortest session less this
/// interval without losing its partitions.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Most memory of fetched records that wait in the consumer, in bytes.
const FETCHED_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Share of a process's memory limit that deliveries may take: one in this number of parts.
const MEMORY_PARTS: u64 = 3;

/// Most memory of deliveries, in bytes. More helps no service, and a machine without control groups
/// has several.
const MEMORY_MAX: u64 = 512 * 1024 * 1024;

/// Least memory of deliveries, in bytes: enough for a service to go on.
const MEMORY_MIN: u64 = 1024 * 1024;

/// Memory limit of a process whose limit cannot be read, in bytes.
const LIMIT_UNKNOWN: u64 = 512 * 1024 * 1024;

/// Bytes that a fetch waits for. Without this wait, 2,200 readings a second are as many fetches.
/// They keep half a core busy in Kafka and a quarter in the alerter.
const FETCH_BYTES_MIN: &str = "100000";

/// How long a fetch waits for these bytes, in milliseconds: the delay of a lone reading. At that
/// rate, 10 ms would cost a tenth of a core more.
const FETCH_WAIT_MS_MAX: &str = "25";

/// How long the polling thread may be busy with a rebalance. The limit is far beyond the claims and
/// the drain of one rebalance: otherwise the group would expel a member that only drains. It is no
/// longer than needed, because a broker that was killed may wait for so long for former members.
const POLL_INTERVAL_MAX: Duration = Duration::from_secs(60);

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

/// The memory for deliveries that are not processed yet, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryMemory {
    /// For records that librdkafka has fetched. The last answer of each broker may exceed it.
    pub fetched: usize,
    /// For deliveries that wait for the pipeline. The last delivery of each chunk may exceed it.
    pub waiting: usize,
    /// For deliveries in the pipeline.
    pub pipeline: usize,
}

impl DeliveryMemory {
    /// Divides a third of a process's memory limit. An eighth of the third is left for what exceeds
    /// the parts.
    pub fn within(limit: Option<u64>) -> Self {
        let third = limit.unwrap_or(LIMIT_UNKNOWN) / MEMORY_PARTS;
        let bytes = third.clamp(MEMORY_MIN, MEMORY_MAX) as usize;
        Self {
            fetched: (bytes / 4).min(FETCHED_BYTES_MAX),
            // All that waits may belong to one partition that is held. A pipeline that keeps half
            // of its part for such partitions takes it in and goes on with the others.
            waiting: bytes / 8,
            pipeline: bytes / 2,
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
    /// Most deliveries that may wait for the pipeline.
    pub waiting_max: usize,
    /// The memory for deliveries.
    pub memory: DeliveryMemory,
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
            // librdkafka also limits an answer of a broker to this, unless --kafka-set does.
            .set("queued.max.messages.kbytes", (self.memory.fetched / 1024).to_string())
            .set("fetch.min.bytes", FETCH_BYTES_MIN)
            .set("fetch.wait.max.ms", FETCH_WAIT_MS_MAX)
            .set("fetch.queue.backoff.ms", "20");
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_take_a_third_of_the_memory_limit_at_most() {
        const MIB: usize = 1024 * 1024;
        for (limit, fetched, waiting, pipeline) in
            [(Some(240), 20, 10, 40), (Some(768), 32, 32, 128), (Some(1_000_000), 32, 64, 256)]
        {
            let bytes = limit.map(|limit: u64| limit * 1024 * 1024);
            let memory = DeliveryMemory::within(bytes);
            let expected = DeliveryMemory {
                fetched: fetched * MIB,
                waiting: waiting * MIB,
                pipeline: pipeline * MIB,
            };
            assert_eq!(memory, expected, "{limit:?} MiB");
            assert!(memory.waiting < memory.pipeline / 2, "the half for held partitions has room");
        }
        assert_eq!(DeliveryMemory::within(None), DeliveryMemory::within(Some(LIMIT_UNKNOWN)));
        assert!(DeliveryMemory::within(Some(1)).pipeline > 0, "a service goes on");
    }
}
