//! Moves the position from which librdkafka fetches an assigned partition.

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use ljwx_service::kafka::REQUEST_TIMEOUT;

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
