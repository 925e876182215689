//! Publishes records with acks=all and idempotence. A record counts as published once its delivery
//! report arrives.
//!
//! A full queue is an error. The caller decides what to answer.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};
use tracing::error;

use super::producer_health::{ProducerHealth, STATISTICS_INTERVAL};

/// Limits of the producer.
#[derive(Debug, Clone)]
pub struct PublisherLimits {
    /// Longest time until a record's delivery report.
    pub message_timeout: Duration,
    /// Longest time for which a record waits for more records of its batch.
    pub linger: Duration,
    /// Most memory of waiting records, in KiB.
    pub queue_kbytes: u32,
    /// Most waiting records.
    pub queue_records: u32,
    /// Largest record, in bytes.
    pub message_bytes_max: usize,
}

/// A record to publish.
#[derive(Debug)]
pub struct OutgoingRecord<'a> {
    /// Destination topic.
    pub topic: &'a str,
    /// The key, which decides the partition. `None`: any partition.
    pub key: Option<&'a [u8]>,
    /// A fixed partition, if the order across topics matters.
    pub partition: Option<i32>,
    /// The record's value. `None` makes it a tombstone.
    pub value: Option<&'a [u8]>,
    /// The record's headers.
    pub headers: OwnedHeaders,
    /// The record's time, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

/// The reason why a record is not known to be in Kafka.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The local queue has no room.
    #[error("the queue to Kafka is full")]
    QueueFull,
    /// The record is larger than Kafka takes.
    #[error("the record is larger than Kafka takes")]
    TooLarge,
    /// The topic has no such partition.
    #[error("the topic has no such partition")]
    NoSuchPartition,
    /// No delivery report confirmed the record. Kafka may have stored it nevertheless.
    #[error("Kafka did not confirm the record: {0}")]
    Unconfirmed(String),
}

impl From<KafkaError> for PublishError {
    fn from(error: KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => Self::QueueFull,
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => Self::TooLarge,
            Some(RDKafkaErrorCode::UnknownPartition) => Self::NoSuchPartition,
            Some(code) => Self::Unconfirmed(code.to_string()),
            None => Self::Unconfirmed(error.to_string()),
        }
    }
}

/// A record that waits for its delivery report.
pub struct PendingRecord(DeliveryFuture);

impl PendingRecord {
    /// Waits for the delivery report and returns the record's partition and offset.
    pub async fn confirmed(self) -> Result<(i32, i64), PublishError> {
        match self.0.await {
            Ok(Ok(delivery)) => Ok((delivery.partition, delivery.offset)),
            Ok(Err((error, _))) => Err(error.into()),
            Err(_) => Err(PublishError::Unconfirmed("the producer was closed".into())),
        }
    }
}

/// The one producer of a process.
#[derive(Clone)]
pub struct Publisher {
    producer: FutureProducer<ProducerHealth>,
    state: ProducerHealth,
}

impl Publisher {
    /// Creates a producer with the connection of `base`.
    pub fn new(mut base: ClientConfig, limits: &PublisherLimits) -> Result<Self, KafkaError> {
        base.set("acks", "all")
            .set("enable.idempotence", "true")
            // The producers of Java and Flink hash keys with murmur2, so all producers choose the
            // same partition.
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", limits.message_timeout.as_millis().to_string())
            .set("linger.ms", limits.linger.as_millis().to_string())
            .set("queue.buffering.max.kbytes", limits.queue_kbytes.to_string())
            .set("queue.buffering.max.messages", limits.queue_records.to_string())
            .set("message.max.bytes", limits.message_bytes_max.to_string())
            .set("statistics.interval.ms", STATISTICS_INTERVAL.as_millis().to_string());
        let state = ProducerHealth::default();
        let producer = base.create_with_context(state.clone())?;
        Ok(Self { producer, state })
    }

    /// Passes a record to the producer. Fails at once if there is no room.
    pub fn enqueue(&self, outgoing: OutgoingRecord<'_>) -> Result<PendingRecord, PublishError> {
        let record = FutureRecord {
            topic: outgoing.topic,
            partition: outgoing.partition,
            payload: outgoing.value,
            key: outgoing.key,
            timestamp: outgoing.timestamp_ms,
            headers: Some(outgoing.headers),
        };
        self.producer.send_result(record).map(PendingRecord).map_err(|(error, _)| error.into())
    }

    /// Returns the whole seconds until the queue will have drained at its recent rate. If nothing
    /// drains, the result grows with the outage. `random` in 0..1 spreads the devices.
    pub fn retry_after(&self, random: f64) -> u64 {
        self.state.retry_after(self.producer.in_flight_count().max(0), random)
    }

    /// Returns the time without a reachable broker. Zero while a broker is reachable.
    pub fn unreachable_for(&self) -> Duration {
        self.state.unreachable_for()
    }

    /// Waits until the producer fails for good, whatever the brokers do: its sequence is lost, or
    /// it was granted no producer id. Only a new process gets a new producer.
    pub async fn failed(self) {
        loop {
            self.state.error_reported().await;
            if let Some((code, reason)) = self.producer.client().fatal_error() {
                error!(?code, reason, "Kafka producer failed permanently, stopping the process");
                return;
            }
        }
    }

    /// Waits for all delivery reports. Returns `false` if records are left. Blocks.
    pub fn flush(&self, deadline: Duration) -> bool {
        self.producer.flush(deadline).is_ok() && self.producer.in_flight_count() == 0
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_producer_that_brokers_give_no_id_says_that_it_has_failed() {
        let brokers = MockCluster::new(1).unwrap();
        let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
        brokers.request_errors(RDKafkaApiKey::InitProducerId, &[refusal]);
        let limits = PublisherLimits {
            message_timeout: Duration::from_secs(6),
            linger: Duration::from_millis(5),
            queue_kbytes: 1024,
            queue_records: 100,
            message_bytes_max: 1024,
        };
        let mut base = ClientConfig::new();
        base.set("bootstrap.servers", brokers.bootstrap_servers());
        let publisher = Publisher::new(base, &limits).unwrap();
        let failed = tokio::time::timeout(Duration::from_secs(30), publisher.failed()).await;
        assert!(failed.is_ok());
    }
}
