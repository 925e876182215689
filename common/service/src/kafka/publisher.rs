//! Publishes records that must not be lost: idempotent, with acks=all; a record counts once its delivery
//! report has arrived.
//!
//! Never waits for room: the caller answers a full queue.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};
use tracing::error;

use super::producer_health::{ProducerState, STATISTICS_INTERVAL};

/// Bounds of the producer.
#[derive(Debug, Clone)]
pub struct PublisherLimits {
    /// How long a record may wait for its delivery report.
    pub message_timeout: Duration,
    /// How long a record waits for company in its batch.
    pub linger: Duration,
    /// Most memory of records that wait.
    pub queue_kbytes: u32,
    /// Most records that wait.
    pub queue_records: u32,
    /// Largest record.
    pub message_bytes_max: usize,
}

/// A record to publish.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// Where to.
    pub topic: &'a str,
    /// What decides the partition; none: any.
    pub key: Option<&'a [u8]>,
    /// A partition that is fixed, where order across topics matters.
    pub partition: Option<i32>,
    /// What it says.
    pub value: &'a [u8],
    /// Its headers.
    pub headers: OwnedHeaders,
    /// Its time, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

/// Why a record is not in Kafka, as far as is known.
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
    /// No delivery report said so; the record may be there all the same.
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

/// A record on its way.
pub struct Pending(DeliveryFuture);

impl Pending {
    /// Waits for the delivery report: partition and offset of the record.
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
    producer: FutureProducer<ProducerState>,
    state: ProducerState,
}

impl Publisher {
    /// A producer with `base`'s connection.
    pub fn new(mut base: ClientConfig, limits: &PublisherLimits) -> Result<Self, KafkaError> {
        base.set("acks", "all")
            .set("enable.idempotence", "true")
            // Java's and Flink's producers place a key by murmur2, so all of them agree.
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", limits.message_timeout.as_millis().to_string())
            .set("linger.ms", limits.linger.as_millis().to_string())
            .set("queue.buffering.max.kbytes", limits.queue_kbytes.to_string())
            .set("queue.buffering.max.messages", limits.queue_records.to_string())
            .set("message.max.bytes", limits.message_bytes_max.to_string())
            .set("statistics.interval.ms", STATISTICS_INTERVAL.as_millis().to_string());
        let state = ProducerState::default();
        let producer = base.create_with_context(state.clone())?;
        Ok(Self { producer, state })
    }

    /// Hands a record to the producer, or says at once that there is no room.
    pub fn enqueue(&self, outgoing: Outgoing<'_>) -> Result<Pending, PublishError> {
        let record = FutureRecord {
            topic: outgoing.topic,
            partition: outgoing.partition,
            payload: Some(outgoing.value),
            key: outgoing.key,
            timestamp: outgoing.timestamp_ms,
            headers: Some(outgoing.headers),
        };
        self.producer.send_result(record).map(Pending).map_err(|(error, _)| error.into())
    }

    /// Whole seconds until the queue will have drained, judged by its recent rate; while nothing
    /// drains, longer the longer that lasts. `random` in 0..1 spreads the devices.
    pub fn retry_after(&self, random: f64) -> u64 {
        self.state.retry_after(self.producer.in_flight_count().max(0), random)
    }

    /// How long no broker has been reachable; zero while one is.
    pub fn unreachable_for(&self) -> Duration {
        self.state.unreachable_for()
    }

    /// Waits until the producer can publish nothing any more, whatever the brokers do: what it knows
    /// of its own order is lost, or it was refused an id. Only a new process has a new one.
    pub async fn failed(self) {
        loop {
            self.state.error_reported().await;
            if let Some((code, reason)) = self.producer.client().fatal_error() {
                error!(?code, reason, "the producer cannot go on");
                return;
            }
        }
    }

    /// Waits for all delivery reports; `false` where records are left. Blocks.
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
