//! Which devices a stretch of the topic is about, read by a consumer of no group.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use ljwx_reading::DeviceSn;
use ljwx_reading::wire;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;

/// How long reading may take; what is not through by then is looked up in MySQL.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one poll may wait.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// Offsets of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The partition.
    pub partition: i32,
    /// First offset.
    pub from: i64,
    /// One past the last.
    pub to: i64,
}

/// The topic, for a look back.
#[derive(Clone)]
pub struct Topic {
    client: ClientConfig,
    name: String,
}

impl Topic {
    /// `group` is not joined: the brokers may let only it read the topic.
    pub fn new(mut client: ClientConfig, name: &str, group: &str) -> Self {
        client
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            // What is no longer in the topic is a reason to ask MySQL, not to read something else.
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "50");
        Self { client, name: name.to_owned() }
    }

    /// The devices of the readings in these stretches, whose offsets are ahead of Kafka's by `base`.
    /// Blocks.
    pub fn devices(
        &self,
        stretches: &[Stretch],
        base: i64,
        stop: &CancellationToken,
    ) -> anyhow::Result<BTreeSet<DeviceSn>> {
        let consumer: BaseConsumer = self.client.create()?;
        let mut list = TopicPartitionList::new();
        for stretch in stretches {
            ensure!(stretch.from >= base, "the topic that they were in is gone");
            let from = Offset::Offset(stretch.from - base);
            list.add_partition_offset(&self.name, stretch.partition, from)?;
        }
        consumer.assign(&list)?;
        let mut open: BTreeMap<i32, i64> =
            stretches.iter().map(|stretch| (stretch.partition, stretch.to - base)).collect();
        let mut devices = BTreeSet::new();
        let until = Instant::now() + READ_TIMEOUT;
        while !open.is_empty() {
            ensure!(Instant::now() < until, "{} partition(s) not through in time", open.len());
            ensure!(!stop.is_cancelled(), "stopping");
            match consumer.poll(POLL_WAIT) {
                None => {}
                Some(Ok(message)) => {
                    let Some(to) = open.get(&message.partition()) else { continue };
                    // What is no reading has no row either.
                    if message.offset() < *to
                        && let Ok(reading) = wire::decode(message.payload().unwrap_or_default())
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
