//! Runs a member of a consumer group: its deliveries, partition by partition, each started where the ledger
//! stands.
//!
//! Polling has a thread of its own (`poll_thread`): a rebalance reads the ledger before it assigns, and may
//! block neither the runtime nor the pipeline. Control comes ahead of data. Deliveries carry the epoch of
//! their claim, so a pipeline tells what a revoked partition left in the queue from what followed the next
//! claim.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::claims::{ClaimTable, is_refused};
use super::delivery::{CHUNK_DELIVERIES_MAX, Delivery, Event};
use super::poll_thread::{Poll, run_or_fail};
use super::rebalance::Assignment;
use super::settings::SourceConfig;
use crate::ledger::Ledger;
use crate::metrics::count_commit_error;
use ljwx_service::kafka::KafkaArgs;
use ljwx_service::kafka::topic_reader::Reader;
use ljwx_service::lifecycle::{Deadline, Step};

/// How long a broker may take to say where a partition ends.
const ENDS_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a start may wait for each server to say whether it is refused.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// A running member of a consumer group.
pub struct Source {
    control: mpsc::UnboundedReceiver<Event>,
    deliveries: mpsc::Receiver<Vec<Delivery>>,
    consumer: Arc<BaseConsumer<Assignment>>,
    topic: String,
    thread: Option<JoinHandle<()>>,
    closing: CancellationToken,
    polling: CancellationToken,
}

/// Refuses to start where a claim would be refused, before a rebalance takes partitions from the
/// group's members. A server that does not answer refuses nothing: claims wait for it.
pub async fn check_start(kafka: &KafkaArgs, ledger: &Ledger) -> anyhow::Result<()> {
    let checked = async {
        ledger.check_kind().await?;
        let (accepted, topic) = (ledger.accepted().await?.clone(), ledger.topic().to_owned());
        let reader = Reader::new(kafka, "ljwx-check")?;
        let asked = move || accepted.count_in(&reader, &topic, CHECK_TIMEOUT);
        tokio::task::spawn_blocking(asked).await?
    };
    match tokio::time::timeout(CHECK_TIMEOUT * 2, checked).await {
        Ok(Err(error)) if is_refused(&error) => Err(error),
        _ => Ok(()),
    }
}

impl Source {
    /// Joins the group; polling ends when `stop` is cancelled.
    pub fn start(
        config: SourceConfig,
        ledger: Ledger,
        stop: CancellationToken,
    ) -> Result<Self, KafkaError> {
        let client = config.client_config();
        let (control_sender, control) = mpsc::unbounded_channel();
        let (delivery_sender, deliveries) =
            mpsc::channel(config.waiting_max.div_ceil(CHUNK_DELIVERIES_MAX));
        let closing = CancellationToken::new();
        let claims = ClaimTable::new(
            ledger,
            config.group.clone(),
            config.topic.clone(),
            control_sender.clone(),
        );
        let assignment = Assignment { claims, closing: closing.clone() };
        let consumer: Arc<BaseConsumer<Assignment>> =
            Arc::new(client.create_with_context(assignment)?);
        consumer.subscribe(&[&config.topic])?;
        let polled = Arc::clone(&consumer);
        // A pipeline that failed closes the source while the process was not told to stop.
        let polling = stop.child_token();
        let (until, keeps_records) = (polling.clone(), config.keeps_records);
        let thread = std::thread::Builder::new()
            .name("kafka-poll".into())
            .spawn(move || {
                let (consumer, sender, stop) = (&polled, &delivery_sender, &until);
                let poll = Poll { consumer, keeps_records, sender, stop };
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

    /// The next event; deliveries only where `admit`, control always.
    pub async fn next(&mut self, admit: bool) -> Event {
        tokio::select! {
            biased;
            Some(event) = self.control.recv() => event,
            chunk = self.deliveries.recv(), if admit => {
                chunk.map_or(Event::Closed, Event::Deliveries)
            }
        }
    }

    /// Deliveries that wait already, without waiting for more: a consumer that pays for each of its
    /// transactions takes them together.
    pub fn waiting(&mut self) -> Option<Vec<Delivery>> {
        self.deliveries.try_recv().ok()
    }

    /// Where partitions end right now, as the brokers say.
    pub async fn ends(&self, partitions: Vec<i32>) -> Result<Vec<(i32, i64)>, KafkaError> {
        let (consumer, topic) = (Arc::clone(&self.consumer), self.topic.clone());
        let asked = tokio::task::spawn_blocking(move || {
            let end = |partition| {
                let (_, end) = consumer.fetch_watermarks(&topic, partition, ENDS_TIMEOUT)?;
                Ok((partition, end + consumer.context().claims.base()))
            };
            partitions.into_iter().map(end).collect()
        });
        asked.await.unwrap_or(Err(KafkaError::Canceled))
    }

    /// Tells the group how far partitions are done, for lag tools; the ledger is the truth.
    pub fn commit(&self, next_offsets: impl IntoIterator<Item = (i32, i64)>) {
        let base = self.consumer.context().claims.base();
        let mut list = TopicPartitionList::new();
        for (partition, next) in next_offsets {
            // Fails only for offsets that no ledger holds.
            let _ = list.add_partition_offset(&self.topic, partition, Offset::Offset(next - base));
        }
        if let Err(error) = self.consumer.store_offsets(&list) {
            count_commit_error(&error);
        }
    }

    /// Commits the last offsets and leaves the group, as far as `deadline` lets it: while a rebalance is
    /// under way, leaving waits for all members. A member that could not leave is missed after its
    /// session.
    pub async fn close(mut self, deadline: &Deadline) {
        self.closing.cancel();
        self.polling.cancel();
        let thread = self.thread.take();
        let consumer = self.consumer;
        let left = tokio::task::spawn_blocking(move || {
            // Sent ahead of the leaving, and not waited for: the ledger is the truth.
            if let Err(error) = consumer.commit_consumer_state(CommitMode::Async) {
                count_commit_error(&error);
            }
            if let Some(thread) = thread {
                // A panic there has been reported by its own hook.
                let _ = thread.join();
            }
            drop(consumer);
        });
        match deadline.within(Step::Leave, left).await {
            Some(Ok(())) => {}
            Some(Err(_)) => tracing::warn!("the consumer did not close cleanly"),
            None => tracing::warn!("the group could not be left in time; its session runs out"),
        }
    }
}
