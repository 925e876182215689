//! Reads what KEDA reads of a group: the ends of the topic, and the offsets that the group has
//! committed to Kafka. The sum belongs to [`super::lag_metric`].

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::lag_metric::PartitionOffsets;
use crate::stack::world::World;

/// The longest that Kafka may take for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A client that asks for the offsets of the workers' group, and is no member of it.
pub(super) struct OffsetReader {
    consumer: Arc<BaseConsumer>,
    topic: String,
    partitions: usize,
}

impl OffsetReader {
    pub(super) fn new(world: &World) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &world.stack.kafka_brokers)
            .set("group.id", &world.worker_group)
            // The group's offsets are the workers' alone.
            .set("enable.auto.commit", "false")
            .create()?;
        Ok(Self {
            consumer: Arc::new(consumer),
            topic: world.readings_topic.clone(),
            partitions: world.partitions(),
        })
    }

    /// Returns the offsets of all partitions.
    pub(super) async fn read(&self) -> anyhow::Result<Vec<PartitionOffsets>> {
        let (consumer, topic) = (Arc::clone(&self.consumer), self.topic.clone());
        let partitions = self.partitions as i32;
        tokio::task::spawn_blocking(move || read(&consumer, &topic, partitions)).await?
    }
}

fn read(
    consumer: &BaseConsumer,
    topic: &str,
    partitions: i32,
) -> anyhow::Result<Vec<PartitionOffsets>> {
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, partitions - 1);
    let list = consumer.committed_offsets(list, ANSWER_WITHIN)?;
    let mut offsets = Vec::new();
    for element in list.elements() {
        element.error()?;
        let committed = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        let partition = element.partition();
        let (_, end) = consumer.fetch_watermarks(topic, partition, ANSWER_WITHIN)?;
        offsets.push(PartitionOffsets { partition, end, committed });
    }
    Ok(offsets)
}
