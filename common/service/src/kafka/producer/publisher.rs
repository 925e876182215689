//! Publishes records with acks=all and idempotence. A record counts as published once its delivery
//! report arrives.
//!
//! Records that belong together find places for all of them, or none is enqueued. A producer that
//! fails for good is replaced. Leaves the judgement of Kafka to `acknowledgement`, and the answer
//! to a refused record to the caller.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use metrics::counter;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Headers, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use tokio::sync::oneshot;
use tracing::{error, info};

use super::acknowledgement::AckLimits;
use super::health::{DeliveryReport, ProducerHealth, STATISTICS_INTERVAL, Ticket};
use super::renewal::{RENEWALS_MAX, Renewals};
use crate::kafka::client::error_label;
use crate::kafka::partitioner::PARTITIONER;

pub use super::acknowledgement::KafkaState;
pub use super::publish_error::PublishError;

/// Usual time without an acknowledgement after which Kafka is stalled. A partition's leader may be
/// away that long.
pub const ACK_STALL: Duration = Duration::from_secs(3);

/// Bytes that a record takes beside its value, key and headers.
const RECORD_BYTES: usize = 512;

/// Room of librdkafka's queue above the places, so that a record with a place always finds room.
/// librdkafka also counts its own events.
const SPARE_RECORDS: u32 = 1000;

/// The same in KiB. librdkafka counts values only.
const SPARE_KBYTES: u32 = 1024;

/// Limits of the producer.
#[derive(Debug, Clone)]
pub struct PublisherLimits {
    /// Longest time until a record's delivery report.
    pub message_timeout: Duration,
    /// Longest time without an acknowledgement before Kafka is stalled.
    pub ack_stall: Duration,
    /// Longest time for which a record waits for more records of its batch.
    pub linger: Duration,
    /// Most memory of waiting records, in KiB.
    pub queue_kbytes: u32,
    /// Most waiting records.
    pub queue_records: u32,
    /// Largest record, in bytes.
    pub message_bytes_max: usize,
}

impl PublisherLimits {
    fn places(&self) -> AckLimits {
        AckLimits {
            stall: self.ack_stall,
            records: self.queue_records as usize,
            bytes: self.queue_kbytes as usize * 1024,
        }
    }
}

/// A record to publish.
#[derive(Debug)]
pub struct OutgoingRecord<'a> {
    /// Destination topic.
    pub topic: &'a str,
    /// The key, which decides the partition. `None`: any partition.
    pub key: Option<Cow<'a, [u8]>>,
    /// A fixed partition, if the order across topics matters.
    pub partition: Option<i32>,
    /// The record's value. `None` makes it a tombstone.
    pub value: Option<Cow<'a, [u8]>>,
    /// The record's headers.
    pub headers: OwnedHeaders,
    /// The record's time, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

impl OutgoingRecord<'_> {
    fn accounted_bytes(&self) -> usize {
        let headers = (0..self.headers.count()).filter_map(|index| self.headers.try_get(index));
        let headers = headers.map(|header| header.key.len() + header.value.map_or(0, <[u8]>::len));
        let key = self.key.as_ref().map_or(0, |key| key.len());
        self.value.as_ref().map_or(0, |value| value.len())
            + key
            + headers.sum::<usize>()
            + RECORD_BYTES
    }
}

/// A record that waits for its delivery report.
#[derive(Debug)]
pub struct PendingRecord(oneshot::Receiver<DeliveryReport>);

impl PendingRecord {
    /// Waits for the delivery report and returns the record's partition and offset.
    pub async fn confirmed(self) -> Result<(i32, i64), PublishError> {
        match self.0.await {
            Ok(report) => report,
            Err(_) => Err(PublishError::Unconfirmed("the producer was closed".into())),
        }
    }
}

type PresentProducer = Option<ThreadedProducer<ProducerHealth>>;

/// The producer of a process, or its successor if it has failed. At most one is alive.
#[derive(Clone)]
pub struct Publisher(Arc<Shared>);

struct Shared {
    config: ClientConfig,
    health: ProducerHealth,
    /// `None` between a producer and its successor.
    producer: RwLock<PresentProducer>,
}

impl Publisher {
    /// Creates a producer with the connection of `base`.
    pub fn new(mut base: ClientConfig, limits: &PublisherLimits) -> Result<Self, KafkaError> {
        let kbytes = limits.queue_kbytes.saturating_add(SPARE_KBYTES);
        let records = limits.queue_records.saturating_add(SPARE_RECORDS);
        base.set("acks", "all")
            .set("enable.idempotence", "true")
            .set("partitioner", PARTITIONER)
            .set("message.timeout.ms", limits.message_timeout.as_millis().to_string())
            .set("linger.ms", limits.linger.as_millis().to_string())
            .set("queue.buffering.max.kbytes", kbytes.to_string())
            .set("queue.buffering.max.messages", records.to_string())
            .set("message.max.bytes", limits.message_bytes_max.to_string())
            .set("statistics.interval.ms", STATISTICS_INTERVAL.as_millis().to_string());
        let health = ProducerHealth::new(limits.places());
        let producer = base.create_with_context(health.clone())?;
        let producer = RwLock::new(Some(producer));
        Ok(Self(Arc::new(Shared { config: base, health, producer })))
    }

    /// Passes a record to the producer. Fails at once if there is no place.
    pub fn enqueue(&self, outgoing: OutgoingRecord<'_>) -> Result<PendingRecord, PublishError> {
        let mut pending = self.enqueue_all(vec![outgoing])?;
        pending.pop().ok_or(PublishError::NoPlace)
    }

    /// Passes records that belong together to the producer, in their order. Fails at once and
    /// enqueues none if there are no places for all. After any other error some may be enqueued.
    pub fn enqueue_all(
        &self,
        outgoing: Vec<OutgoingRecord<'_>>,
    ) -> Result<Vec<PendingRecord>, PublishError> {
        let bytes: Vec<_> = outgoing.iter().map(OutgoingRecord::accounted_bytes).collect();
        // After an error, the places that are left are given back.
        let places = self.0.health.places(&bytes)?;
        let producer = self.present();
        let Some(producer) = producer.as_ref() else {
            return Err(PublishError::Unconfirmed("the producer is being replaced".into()));
        };
        let mut pending = Vec::with_capacity(outgoing.len());
        for (place, outgoing) in places.into_iter().zip(outgoing) {
            let (report, reported) = oneshot::channel();
            let record = BaseRecord {
                topic: outgoing.topic,
                partition: outgoing.partition,
                payload: outgoing.value.as_deref(),
                key: outgoing.key.as_deref(),
                timestamp: outgoing.timestamp_ms,
                headers: Some(outgoing.headers),
                delivery_opaque: Box::new(Ticket { place, report }),
            };
            producer.send(record).map_err(|(error, _)| PublishError::from(error))?;
            pending.push(PendingRecord(reported));
        }
        Ok(pending)
    }

    /// Notes that as many records were refused before they came here. Their senders come back.
    pub fn refused(&self, records: u64) {
        self.0.health.acks().refuse(records, Instant::now());
    }

    /// Returns whether Kafka acknowledges records.
    pub fn state(&self) -> KafkaState {
        self.0.health.acks().state(Instant::now())
    }

    /// Returns the whole seconds until the waiting and the refused records will have been
    /// acknowledged at the recent rate. If nothing is acknowledged, the result grows with the
    /// stall. `random` in 0..1 spreads the devices.
    pub fn retry_after(&self, random: f64) -> u64 {
        self.0.health.acks().retry_after(Instant::now(), random)
    }

    /// Replaces the producer whenever it fails for good, whatever the brokers do: its sequence is
    /// lost, or it was granted no producer id. Counts the new producers as `renewals`, by `code`.
    /// Ends if too many in a row had no record acknowledged.
    pub async fn keep_alive(self, renewals: &'static str) {
        let mut policy = Renewals::default();
        loop {
            let (code, reason) = self.failed().await;
            error!(?code, reason, "Kafka producer failed permanently, replacing it");
            self.retire(reason).await;
            loop {
                let acknowledged = self.0.health.acks().successes();
                let Some(wait) = policy.next(Instant::now(), acknowledged) else {
                    error!(renewals = RENEWALS_MAX, "cannot replace Kafka producer, giving up");
                    return;
                };
                tokio::time::sleep(wait).await;
                counter!(renewals, "code" => error_label(Some(code))).increment(1);
                match self.renew() {
                    Ok(()) => break,
                    Err(error) => error!(%error, "cannot create Kafka producer, retrying"),
                }
            }
            info!("Kafka producer replaced");
        }
    }

    /// Waits until the producer fails for good.
    async fn failed(&self) -> (RDKafkaErrorCode, String) {
        loop {
            self.0.health.error_reported().await;
            let failure = self.present().as_ref().and_then(|failed| failed.client().fatal_error());
            if let Some(failure) = failure {
                return failure;
            }
        }
    }

    /// Ends the producer. Its records fail.
    async fn retire(&self, reason: String) {
        self.0.health.acks().broken(reason);
        let producer = self.replaceable().take();
        // The end purges the queue, waits up to 500 ms for the reports, and joins threads.
        let ended = tokio::task::spawn_blocking(move || drop(producer)).await;
        if let Err(error) = ended {
            error!(%error, "cannot end Kafka producer in order, replacing it");
        }
    }

    fn renew(&self) -> Result<(), KafkaError> {
        let producer = self.0.config.create_with_context(self.0.health.clone())?;
        // This frees all places, so it comes before the new producer gets records.
        self.0.health.acks().renewed(Instant::now());
        *self.replaceable() = Some(producer);
        Ok(())
    }

    /// Waits for all delivery reports. Returns `false` if records are left. Blocks.
    pub fn flush(&self, deadline: Duration) -> bool {
        let flushed = |producer: &ThreadedProducer<ProducerHealth>| {
            producer.flush(deadline).is_ok() && producer.in_flight_count() == 0
        };
        self.present().as_ref().is_none_or(flushed)
    }

    fn present(&self) -> RwLockReadGuard<'_, PresentProducer> {
        self.0.producer.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn replaceable(&self) -> RwLockWriteGuard<'_, PresentProducer> {
        self.0.producer.write().unwrap_or_else(PoisonError::into_inner)
    }
}
