//! Publishing records that must not be lost: idempotent, acks=all, and nothing counts before its
//! delivery report.
//!
//! Never waits for room: a full queue is the caller's to answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metrics::gauge;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};
use rdkafka::{ClientConfig, ClientContext, Statistics};
use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::metrics::{
    BROKER_RTT_SECONDS, BROKER_UP, PRODUCER_QUEUE_RECORDS, PRODUCER_UNREACHABLE_SECONDS, flag,
};

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
            self.state.trouble.notified().await;
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

/// How often the producer reports on itself.
const STATISTICS_INTERVAL: Duration = Duration::from_secs(1);

/// Shortest and longest answer of [`Publisher::retry_after`], in seconds.
const RETRY_AFTER_RANGE: (f64, f64) = (1.0, 60.0);

/// What the producer's own statistics say about its health.
#[derive(Debug, Clone)]
struct ProducerState {
    start: Instant,
    sent_total: Arc<AtomicI64>,
    /// Records a second, as the bits of an `f64`.
    drain_rate: Arc<AtomicU64>,
    /// Milliseconds from `start` to when a broker was last seen up.
    up_at: Arc<AtomicU64>,
    /// Whether it was said that none is.
    said: Arc<AtomicBool>,
    /// That it has reported an error, which may be its last.
    trouble: Arc<Notify>,
}

impl Default for ProducerState {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            sent_total: Arc::default(),
            drain_rate: Arc::default(),
            up_at: Arc::default(),
            said: Arc::default(),
            trouble: Arc::default(),
        }
    }
}

impl ProducerState {
    fn unreachable_for(&self) -> Duration {
        let up_at = Duration::from_millis(self.up_at.load(Ordering::Relaxed));
        let since = self.start.elapsed().saturating_sub(up_at);
        since.saturating_sub(STATISTICS_INTERVAL * 2)
    }

    /// Says once that Kafka is away, and once that it is back.
    fn tell(&self) {
        let away = !self.unreachable_for().is_zero();
        if self.said.swap(away, Ordering::Relaxed) != away {
            if away {
                warn!("no broker is reachable; nothing is acknowledged meanwhile");
            } else {
                info!("Kafka is reachable again");
            }
        }
    }

    fn retry_after(&self, waiting: i32, random: f64) -> u64 {
        let rate = f64::from_bits(self.drain_rate.load(Ordering::Relaxed));
        let seconds = if rate >= 1.0 && self.unreachable_for().is_zero() {
            f64::from(waiting) / rate
        } else {
            self.unreachable_for().as_secs_f64() / 2.0
        };
        let spread = seconds * (1.0 + random.clamp(0.0, 1.0) / 2.0);
        spread.clamp(RETRY_AFTER_RANGE.0, RETRY_AFTER_RANGE.1).ceil() as u64
    }
}

impl ClientContext for ProducerState {
    fn error(&self, error: KafkaError, reason: &str) {
        warn!(%error, reason, "producer error");
        self.trouble.notify_one();
    }

    fn stats(&self, statistics: Statistics) {
        let sent = statistics.txmsgs;
        let before = self.sent_total.swap(sent, Ordering::Relaxed);
        let rate = (sent - before) as f64 / STATISTICS_INTERVAL.as_secs_f64();
        self.drain_rate.store(rate.to_bits(), Ordering::Relaxed);
        // Broker -1 is a bootstrap address; it counts, too: a name may be all there is yet.
        if statistics.brokers.values().any(|broker| broker.state == "UP") {
            self.up_at.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
        }
        self.tell();
        gauge!(PRODUCER_QUEUE_RECORDS).set(statistics.msg_cnt as f64);
        gauge!(PRODUCER_UNREACHABLE_SECONDS).set(self.unreachable_for().as_secs_f64());
        // Bootstrap addresses have negative numbers; what is asked of them says nothing of a broker.
        for broker in statistics.brokers.values().filter(|broker| broker.nodeid >= 0) {
            let id = broker.nodeid.to_string();
            gauge!(BROKER_UP, "broker" => id.clone()).set(flag(broker.state == "UP"));
            let Some(rtt) = &broker.rtt else { continue };
            for (statistic, micros) in [("p50", rtt.p50), ("p99", rtt.p99)] {
                gauge!(BROKER_RTT_SECONDS, "broker" => id.clone(), "statistic" => statistic)
                    .set(micros as f64 / 1e6);
            }
        }
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

    #[test]
    fn retry_after_follows_the_queue_and_the_outage() {
        let state = ProducerState::default();
        state.drain_rate.store(1000.0_f64.to_bits(), Ordering::Relaxed);
        assert_eq!(state.retry_after(10, 0.0), 1);
        assert_eq!(state.retry_after(10_000, 0.0), 10);
        assert_eq!(state.retry_after(10_000, 1.0), 15);
        assert_eq!(state.retry_after(10_000_000, 0.0), 60);

        let down = ProducerState {
            start: Instant::now() - Duration::from_millis(41_500),
            ..ProducerState::default()
        };
        assert_eq!(down.retry_after(10, 0.0), 20);
    }
}
