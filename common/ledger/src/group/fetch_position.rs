//! Reads and moves the positions at which librdkafka fetches assigned partitions.

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use ljwx_service::kafka::REQUEST_TIMEOUT;

/// Returns the offset up to which each partition has been read, if known. librdkafka passes offsets
/// without a record, such as transaction markers, by itself.
pub(super) fn read_positions<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Vec<(i32, i64)> {
    let Ok(positions) = consumer.position() else { return Vec::new() };
    let mut known = Vec::new();
    for element in positions.elements() {
        if let Offset::Offset(offset) = element.offset() {
            known.push((element.partition(), offset));
        }
    }
    known
}

/// Continues fetching a partition at `offset`. Fails if librdkafka has stopped fetching it, as at an
/// offset that the topic does not have.
pub(super) fn seek<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
    offset: Offset,
) -> KafkaResult<()> {
    consumer.seek(topic, partition, offset, REQUEST_TIMEOUT)
}

/// Like [`seek`], also if librdkafka has stopped fetching the partition.
pub(super) fn start<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
    offset: Offset,
) -> KafkaResult<()> {
    if seek(consumer, topic, partition, offset).is_ok() {
        return Ok(());
    }
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, offset)?;
    consumer.incremental_unassign(&list)?;
    consumer.incremental_assign(&list)
}
