//! Runs a member of a consumer group. Each partition starts at the ledger's position.
//!
//! Polling has a thread of its own (`poll_thread`): a rebalance reads the ledger before it assigns,
//! and must block neither the runtime nor the pipeline. Control events overtake deliveries.
//! Deliveries carry the epoch of their claim, so deliveries queued before a revocation are
//! distinguished from those of the next claim.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::claim_check::check_claims;
use super::claims::{ClaimTable, is_refused};
use super::delivery::{CHUNK_DELIVERIES_MAX, ConsumerEvent, Delivery};
use super::poll_thread::{PollThread, run_or_fail};
use super::rebalance::RebalanceContext;
use super::settings::GroupConsumerConfig;
use crate::ledger::Ledger;
use crate::metrics::count_commit_error;
use ljwx_service::kafka::KafkaArgs;
use ljwx_service::kafka::topic_ends::{TopicEnds, Watermarks};
use ljwx_service::kafka::topic_reader::TopicReader;
use ljwx_service::lifecycle::{Deadline, EssentialTasks, ShutdownStep};

/// Longest wait for each broker's answer about the ends of partitions.
const ENDS_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest wait of the start check for the answer of each server.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// A running member of a consumer group.
pub struct GroupConsumer {
    control: mpsc::UnboundedReceiver<ConsumerEvent>,
    deliveries: mpsc::Receiver<Vec<Delivery>>,
    consumer: Arc<BaseConsumer<RebalanceContext>>,
    topic: String,
    thread: Option<JoinHandle<()>>,
    closing: CancellationToken,
    polling: CancellationToken,
}

/// Fails if a claim would be refused, before a rebalance takes partitions from the group's members.
/// An unreachable server is no failure: claims wait for it.
pub async fn check_start(kafka: &KafkaArgs, ledger: &Ledger) -> anyhow::Result<()> {
    let checked = async {
        ledger.check_kind().await?;
        let (accepted, topic) = (ledger.accepted().await?.clone(), ledger.topic().to_owned());
        let reader = TopicReader::new(kafka, "ljwx-check")?;
        let answer = move || accepted.count_in(&reader, &topic, CHECK_TIMEOUT);
        tokio::task::spawn_blocking(answer).await?
    };
    match tokio::time::timeout(CHECK_TIMEOUT * 2, checked).await {
        Ok(Err(error)) if is_refused(&error) => Err(error),
        _ => Ok(()),
    }
}

impl GroupConsumer {
    /// Joins the group. Polling ends when `stop` is cancelled.
    pub fn start(
        config: GroupConsumerConfig,
        ledger: Ledger,
        essential: &EssentialTasks,
        stop: &CancellationToken,
    ) -> Result<Self, KafkaError> {
        let client = config.client_config();
        let (control_sender, control) = mpsc::unbounded_channel();
        let chunks = config.waiting_max.div_ceil(CHUNK_DELIVERIES_MAX);
        let (delivery_sender, deliveries) = mpsc::channel(chunks);
        let closing = CancellationToken::new();
        let claims = Arc::new(ClaimTable::new(ledger, control_sender.clone()));
        let assignment = RebalanceContext::new(Arc::clone(&claims), closing.clone());
        let consumer: Arc<BaseConsumer<RebalanceContext>> =
            Arc::new(client.create_with_context(assignment)?);
        consumer.subscribe(&[&config.topic])?;
        let polled = Arc::clone(&consumer);
        // A failed pipeline closes this member while the process is not stopping.
        let polling = stop.child_token();
        let checks = check_claims(claims, polling.clone());
        essential.spawn("the check of the claims", &polling, checks);
        let (until, chunk_bytes) = (polling.clone(), config.memory.waiting / chunks);
        let thread = std::thread::Builder::new()
            .name("kafka-poll".into())
            .spawn(move || {
                let (consumer, sender, stop) = (&polled, &delivery_sender, &until);
                let poll = PollThread { consumer, chunk_bytes, sender, stop };
                run_or_fail(&control_sender, || poll.run());
            })
            .map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self {
            control,
            deliveries,
            consumer,
            topic: config.topic,
            thread: Some(thread),
            closing,
            polling,
        })
    }

    /// Returns the next event. Deliveries only if `admit`, control events always.
    pub async fn next(&mut self, admit: bool) -> ConsumerEvent {
        tokio::select! {
            biased;
            Some(event) = self.control.recv() => event,
            chunk = self.deliveries.recv(), if admit => {
                chunk.map_or(ConsumerEvent::Closed, ConsumerEvent::Deliveries)
            }
        }
    }

    /// Returns queued deliveries without waiting, so that one transaction can cover more of them.
    pub fn waiting(&mut self) -> Option<Vec<Delivery>> {
        self.deliveries.try_recv().ok()
    }

    /// Claims a partition again under a new epoch: the ledger did not accept a write under `epoch`.
    /// Nothing happens if the partition is revoked, or claimed anew by now.
    pub fn claim_again(&self, partition: i32, epoch: i64) {
        self.consumer.context().claims.unclaim(partition, epoch);
    }

    /// Pauses exactly these partitions for want of room, and resumes all others that were held back.
    pub fn hold_back(&self, partitions: BTreeSet<i32>) {
        self.consumer.context().claims.hold_back(partitions);
    }

    /// Returns why assigned partitions cannot be claimed.
    pub fn unclaimed(&self) -> Vec<String> {
        self.consumer.context().claims.unclaimed()
    }

    /// Queries the brokers for the present ends of the records in partitions. Leaves out partitions
    /// whose leader does not answer: it is unknown whether they have been read to their end.
    pub async fn ends(&self, partitions: Vec<i32>) -> Result<Vec<(i32, i64)>, KafkaError> {
        let (consumer, topic) = (Arc::clone(&self.consumer), self.topic.clone());
        let answer = tokio::task::spawn_blocking(move || {
            let wanted = |partition| partitions.contains(&partition);
            let ends = TopicEnds::query(consumer.client(), &topic, wanted, ENDS_TIMEOUT)?;
            let claims = &consumer.context().claims;
            let ends = ends.unwrap_or_default().counted_from(claims.base()).known.into_iter();
            let of_records = |(at, ends): (i32, Watermarks)| (at, claims.record_end(at, ends.high));
            Ok(ends.map(of_records).collect())
        });
        answer.await.unwrap_or(Err(KafkaError::Canceled))
    }

    /// Commits positions to the group, for lag tools. The ledger is the truth.
    pub fn commit(&self, next_offsets: impl IntoIterator<Item = (i32, i64)>) {
        let base = self.consumer.context().claims.base();
        let mut list = TopicPartitionList::new();
        for (partition, next) in next_offsets {
            // Adding fails only for offsets that no ledger holds.
            let _ = list.add_partition_offset(&self.topic, partition, Offset::Offset(next - base));
        }
        if let Err(error) = self.consumer.store_offsets(&list) {
            count_commit_error(&error);
        }
    }

    /// Commits the last offsets and leaves the group, within `deadline`. During a rebalance,
    /// leaving waits for all members. A member that does not leave in time is removed when its
    /// session expires.
    pub async fn close(mut self, deadline: &Deadline) {
        self.closing.cancel();
        self.polling.cancel();
        let thread = self.thread.take();
        let consumer = self.consumer;
        let left = tokio::task::spawn_blocking(move || {
            // The commit is sent before the leave and not awaited: the ledger is the truth.
            if let Err(error) = consumer.commit_consumer_state(CommitMode::Async) {
                count_commit_error(&error);
            }
            if let Some(thread) = thread {
                // The panic hook has logged a panic of the thread.
                let _ = thread.join();
            }
            drop(consumer);
        });
        match deadline.within(ShutdownStep::Leave, left).await {
            Some(Ok(())) => {}
            Some(Err(_)) => tracing::warn!("consumer did not close cleanly"),
            None => {
                tracing::warn!("cannot leave the consumer group in time, the session times out")
            }
        }
    }
}
