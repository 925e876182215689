//! Reads from the topic which devices have readings in a range of offsets. The consumer joins no
//! group.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use ljwx_reading::DeviceSn;
use ljwx_reading::wire;
use ljwx_service::kafka::topic_reader::ReaderContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;

/// Time limit of the reading. After it the repair takes all devices of MySQL.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest wait of one poll.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// A range of offsets of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetRange {
    pub partition: i32,
    /// First offset.
    pub from: i64,
    /// One past the last offset.
    pub to: i64,
}

/// Reads past records of the readings topic.
#[derive(Clone)]
pub struct ReadingsTopic {
    client: ClientConfig,
    name: String,
}

impl ReadingsTopic {
    /// Creates a reader with the id of `group`, because the brokers may let only this group read
    /// the topic. The reader does not join the group.
    pub fn new(mut client: ClientConfig, name: &str, group: &str) -> Self {
        client
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            // If an offset is no longer in the topic, fail: the repair then takes MySQL, not other
            // offsets.
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "50");
        Self { client, name: name.to_owned() }
    }

    /// Returns the devices of the readings in these ranges, whose offsets are Kafka's plus `base`.
    /// Blocks.
    pub fn devices(
        &self,
        ranges: &[OffsetRange],
        base: i64,
        stop: &CancellationToken,
    ) -> anyhow::Result<BTreeSet<DeviceSn>> {
        let consumer: BaseConsumer<ReaderContext> =
            self.client.create_with_context(ReaderContext::default())?;
        let mut list = TopicPartitionList::new();
        for range in ranges {
            ensure!(range.from >= base, "the topic that they were in is gone");
            let from = Offset::Offset(range.from - base);
            list.add_partition_offset(&self.name, range.partition, from)?;
        }
        consumer.assign(&list)?;
        let mut open: BTreeMap<i32, i64> =
            ranges.iter().map(|range| (range.partition, range.to - base)).collect();
        let mut devices = BTreeSet::new();
        let until = Instant::now() + READ_TIMEOUT;
        while !open.is_empty() {
            ensure!(Instant::now() < until, "{} partition(s) not through in time", open.len());
            ensure!(!stop.is_cancelled(), "stopping");
            match consumer.poll(POLL_WAIT) {
                None => {}
                Some(Ok(message)) => {
                    let Some(to) = open.get(&message.partition()) else { continue };
                    // A record that is no reading has no row.
                    if message.offset() < *to
                        && let Ok(reading) = wire::decode(message.payload())
                    {
                        devices.insert(reading.device_sn().clone());
                    }
                    if message.offset() + 1 >= *to {
                        open.remove(&message.partition());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) => bail!(error),
            }
        }
        Ok(devices)
    }
}
