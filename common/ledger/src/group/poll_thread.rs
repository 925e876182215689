//! Polls Kafka on a thread of its own. Fetches, decodes and hands over deliveries, and pauses
//! partitions while the pipeline has no room.
//!
//! Leaves claims and pauses to `claims`, and rebalances to `rebalance`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use metrics::counter;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::delivery::{
    CHUNK_DELIVERIES_MAX, ConsumerEvent, Delivery, RawRecord, Replay, Undecodable,
};
use super::rebalance::RebalanceContext;
use crate::metrics::CONSUMER_ERRORS;
use ljwx_reading::wire;
use ljwx_service::kafka::error_label;
use ljwx_service::kafka::record_trace::RecordTrace;

/// How long one poll may wait for a record.
const POLL_WAIT: Duration = Duration::from_millis(50);

/// How long a chunk may wait for room before partitions are paused. A pause discards fetched
/// records, so a short stall does not pause.
const ROOM_WAIT: Duration = Duration::from_secs(2);

/// Interval of the checks for partitions to claim, and for how far others are read.
const CLAIM_INTERVAL: Duration = Duration::from_secs(1);

/// The parts that the thread works with.
pub struct PollThread<'a> {
    pub consumer: &'a BaseConsumer<RebalanceContext>,
    /// Memory of deliveries from which on a chunk ends.
    pub chunk_bytes: usize,
    pub sender: &'a mpsc::Sender<Vec<Delivery>>,
    pub stop: &'a CancellationToken,
}

impl PollThread<'_> {
    /// Polls until `stop`. The sender is dropped at the end, after the pipeline's last chunk.
    pub fn run(&self) {
        let mut claimed_at = Instant::now();
        while !self.stop.is_cancelled() {
            let chunk = self.chunk();
            if !chunk.is_empty() && !self.hand_over(chunk, &mut claimed_at) {
                return;
            }
            self.tend(&mut claimed_at);
        }
    }

    /// From time to time claims unclaimed partitions and notes how far the others are read. Pauses and
    /// resumes as the claims and the pipeline demand.
    fn tend(&self, claimed_at: &mut Instant) {
        let claims = &self.consumer.context().claims;
        if claimed_at.elapsed() >= CLAIM_INTERVAL {
            claims.claim_waiting(self.consumer);
            claims.note_read(self.consumer);
            *claimed_at = Instant::now();
        }
        claims.apply_pauses(self.consumer);
    }

    /// Waits for the first record and returns all records that are there, up to the limits of a
    /// chunk.
    fn chunk(&self) -> Vec<Delivery> {
        let consumer = self.consumer;
        let mut deliveries = Vec::with_capacity(CHUNK_DELIVERIES_MAX);
        let mut bytes = 0;
        let mut wait = POLL_WAIT;
        loop {
            match consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    let delivery = self.delivery(&message);
                    bytes += delivery.as_ref().map_or(0, Delivery::memory_bytes);
                    deliveries.extend(delivery);
                }
                Some(Err(error)) => {
                    self.on_error(&error);
                    break;
                }
            }
            // A record that is larger than a chunk is a chunk alone.
            if deliveries.len() >= CHUNK_DELIVERIES_MAX || bytes >= self.chunk_bytes {
                break;
            }
            wait = Duration::ZERO;
        }
        deliveries
    }

    /// Handles an error of the consumer. Other partitions continue.
    fn on_error(&self, error: &KafkaError) {
        let context = self.consumer.context();
        let code = error.rdkafka_error_code();
        counter!(CONSUMER_ERRORS, "code" => error_label(code)).increment(1);
        // Most errors have come to the context already.
        if context.errors.admits(error) {
            warn!(%error, "cannot read from Kafka, retrying");
        }
        if code == Some(RDKafkaErrorCode::AutoOffsetReset) {
            context.hold_out_of_range(self.consumer);
        }
        // This error comes with the code of its cause, for example another member with the same
        // name.
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            context.claims.fail(error.to_string());
        }
    }

    fn delivery(&self, message: &BorrowedMessage<'_>) -> Option<Delivery> {
        let offset = message.offset() + self.consumer.context().claims.base();
        let epoch = self.consumer.context().claims.admit(message.partition(), offset)?;
        let undecodable = |error| Undecodable { error, record: RawRecord::of(message) };
        let reading = wire::decode(message.payload()).map_err(undecodable);
        let record_bytes = match &reading {
            Ok(_) => message.payload_len(),
            Err(undecodable) => undecodable.record.bytes(),
        };
        let headers = message.headers();
        Some(Delivery {
            partition: message.partition(),
            offset,
            epoch,
            kafka_ms: message.timestamp().to_millis().unwrap_or_default(),
            origin: headers.map(RecordTrace::of_headers).unwrap_or_default(),
            replay: headers.and_then(Replay::of_headers),
            reading,
            record_bytes,
        })
    }

    /// Hands a chunk to the pipeline. While the pipeline has no room, keeps polling with paused
    /// partitions: otherwise the group would expel this member.
    ///
    /// Returns `false` if the pipeline is gone, or must end because the records are another
    /// topic's.
    fn hand_over(&self, mut chunk: Vec<Delivery>, claimed_at: &mut Instant) -> bool {
        let Self { consumer, sender, stop, .. } = self;
        let claims = &consumer.context().claims;
        loop {
            let room = async { tokio::time::timeout(ROOM_WAIT, sender.reserve()).await };
            match claims.runtime().block_on(room) {
                Ok(Ok(permit)) => {
                    if !claims.is_accepted_topic(consumer) {
                        return false;
                    }
                    permit.send(chunk);
                    claims.set_full(false);
                    return true;
                }
                Ok(Err(_)) => return false,
                Err(_) if stop.is_cancelled() => return true,
                Err(_) => {
                    claims.set_full(true);
                    self.tend(claimed_at);
                    // The poll may bring an error, or a record if a pause has just failed. It may
                    // also bring partitions, which are paused at once.
                    match consumer.poll(Duration::ZERO) {
                        Some(Ok(message)) => chunk.extend(self.delivery(&message)),
                        Some(Err(error)) => self.on_error(&error),
                        None => {}
                    }
                    claims.apply_pauses(consumer);
                }
            }
        }
    }
}

/// Runs the polling thread. A panic is a failure of the process, because nothing would be read any
/// more.
pub(super) fn run_or_fail(control: &mpsc::UnboundedSender<ConsumerEvent>, run: impl FnOnce()) {
    // Everything that the thread shares is behind locks, which are released by now.
    if catch_unwind(AssertUnwindSafe(run)).is_err() {
        // If the pipeline is gone, the process is ending anyway.
        let _ = control.send(ConsumerEvent::Failed("the polling thread has panicked".into()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::tz::TimeZone;
    use rdkafka::mocking::MockCluster;
    use rdkafka::{ClientConfig, Offset, TopicPartitionList};

    use super::super::claims::ClaimTable;
    use super::*;
    use crate::ledger::{Claim, GroupKind, Ledger};
    use crate::mysql::MySqlArgs;

    const TOPIC: &str = "readings";

    /// Returns the ledger of a database that does not answer.
    fn ledger() -> Ledger {
        let mysql = MySqlArgs {
            url: "mysql://u@127.0.0.1:1/d".into(),
            pool_size: 2,
            acquire_timeout: Duration::from_secs(1),
            statement_timeout: Duration::from_secs(1),
        };
        let pool = mysql.connect(&TimeZone::UTC).unwrap();
        Ledger::new(pool, GroupKind::Worker, "worker", TOPIC, "owner".into())
    }

    /// Returns a consumer that fetches partition 0 from an offset that the topic does not have.
    fn consumer(brokers: &str, context: RebalanceContext) -> BaseConsumer<RebalanceContext> {
        let consumer: BaseConsumer<RebalanceContext> = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "worker")
            .set("auto.offset.reset", "error")
            .create_with_context(context)
            .unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(TOPIC, 0, Offset::Offset(5)).unwrap();
        consumer.assign(&list).unwrap();
        consumer
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_error_of_the_consumer_is_handled_while_the_pipeline_has_no_room() {
        let brokers = MockCluster::new(1).unwrap();
        brokers.create_topic(TOPIC, 1, 1).unwrap();
        let (control, _events) = mpsc::unbounded_channel();
        let claims = Arc::new(ClaimTable::new(ledger(), control));
        // librdkafka does not fetch this partition. Only the error leads to the end of the claim.
        claims.add(&[1]);
        claims.serve(vec![Claim { partition: 1, epoch: 7, next_offset: 0, redis_offset: 0 }]);
        let stop = CancellationToken::new();
        let context = RebalanceContext::new(Arc::clone(&claims), stop.clone());
        let consumer = consumer(&brokers.bootstrap_servers(), context);
        let (sender, _pipeline) = mpsc::channel(1);
        sender.try_send(Vec::new()).unwrap();
        let until = stop.clone();
        let handing_over = tokio::task::spawn_blocking(move || {
            let (consumer, sender, stop) = (&consumer, &sender, &until);
            let poll = PollThread { consumer, chunk_bytes: 1, sender, stop };
            poll.hand_over(Vec::new(), &mut Instant::now())
        });
        let handled = async {
            let mut ticks = tokio::time::interval(POLL_WAIT);
            while !claims.positions().is_empty() {
                ticks.tick().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), handled).await.unwrap();
        stop.cancel();
        assert!(handing_over.await.unwrap());
    }

    #[test]
    fn a_polling_thread_that_dies_is_a_failure_and_one_that_stops_is_none() {
        let (control, mut events) = mpsc::unbounded_channel();
        run_or_fail(&control, || {});
        assert!(events.try_recv().is_err());
        run_or_fail(&control, || panic!("on purpose"));
        assert!(matches!(events.try_recv(), Ok(ConsumerEvent::Failed(_))));
    }
}
