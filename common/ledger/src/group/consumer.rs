//! A consumer group's deliveries, partition by partition, each started where the ledger stands.
//!
//! Polling has a thread of its own (`poll`): a rebalance must read the ledger before it assigns,
//! and that may block neither the runtime nor the pipeline. Control comes ahead of data and
//! deliveries carry the epoch of their claim, so what a revoked partition left in the queue is told
//! from what came after it was taken again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::claims::Assignment;
use crate::ledger::{Claim, ClaimError, Ledger};
use ljwx_reading::Reading;
use ljwx_reading::wire::DecodeError;
use ljwx_service::config::{Problems, duration};
use ljwx_service::kafka::KafkaArgs;
use ljwx_service::kafka::topic_reader::Reader;
use ljwx_service::lifecycle::{Deadline, Step};
use ljwx_service::metrics::COMMIT_ERRORS;
use ljwx_service::telemetry::trace::Origin;

/// How often a member says that it is alive. The shortest session less this is how long a process
/// may freeze at no cost: its last heartbeat is at most so old when it begins.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// How members of a group agree on who has which partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum GroupProtocol {
    /// Members assign, one partition moves at a time; every broker knows it.
    Classic,
    /// The broker assigns (KIP-848); brokers from 4.0 on.
    Consumer,
}

/// Settings of a consumer group's member.
#[derive(Debug, Clone, clap::Args)]
pub struct GroupArgs {
    /// Who assigns partitions; all members of a group must agree.
    #[arg(long, env = "GROUP_PROTOCOL", value_enum, default_value = "classic")]
    pub group_protocol: GroupProtocol,
    /// Stable name of this replica, such as worker-0: a restart within the session timeout then
    /// moves no partition. Unset: every start is a new member.
    #[arg(long, env = "GROUP_INSTANCE_ID")]
    pub group_instance_id: Option<String>,
    /// How long a replica may be silent before its partitions go to others; with the consumer
    /// protocol the brokers' group.consumer.session.timeout.ms decides, which should be as short.
    #[arg(long, env = "SESSION_TIMEOUT", default_value = "6s", value_parser = duration)]
    pub session_timeout: Duration,
}

impl GroupArgs {
    /// Notes what is wrong with the settings.
    pub fn validate(&self, problems: &mut Problems) {
        let range = Duration::from_secs(6)..=Duration::from_secs(300);
        problems.require(range.contains(&self.session_timeout), || {
            "--session-timeout must lie between 6s and 5m, as the brokers want it".into()
        });
    }

    fn apply(&self, config: &mut ClientConfig) {
        match self.group_protocol {
            GroupProtocol::Classic => config
                .set("session.timeout.ms", self.session_timeout.as_millis().to_string())
                .set("heartbeat.interval.ms", HEARTBEAT_INTERVAL.as_millis().to_string())
                .set("partition.assignment.strategy", "cooperative-sticky"),
            // The client is refused where it sets what the broker decides.
            GroupProtocol::Consumer => config.set("group.protocol", "consumer"),
        };
        if let Some(id) = &self.group_instance_id {
            config.set("group.instance.id", id);
        }
    }
}

/// One record of the readings topic, decoded.
#[derive(Debug)]
pub struct Delivery {
    /// Its partition.
    pub partition: i32,
    /// Its offset, as the ledger counts: Kafka's plus the topic's base.
    pub offset: i64,
    /// The claim it was read under.
    pub epoch: i64,
    /// The record's time, in milliseconds since 1970: when the gateway received it.
    pub kafka_ms: i64,
    /// The span that sent it.
    pub origin: Origin,
    /// What it says, or why nobody can tell.
    pub reading: Result<Reading, DecodeError>,
    /// The record itself; empty where the source keeps none.
    pub record: Record,
}

/// A record as it stands in Kafka.
#[derive(Debug, Default)]
pub struct Record {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Vec<u8>,
    /// Its headers.
    pub headers: Option<OwnedHeaders>,
}

/// What a pipeline has to deal with.
#[derive(Debug)]
pub enum Event {
    /// Partitions are ours, from these positions; none where the group has none for this member.
    Assigned(Vec<Claim>),
    /// Deliveries in the order of their partitions.
    Deliveries(Vec<Delivery>),
    /// Partitions go away.
    Revoked(Revocation),
    /// No more deliveries will come: the process is stopping.
    Closed,
    /// The consumer cannot go on; only a new process can.
    Failed(String),
}

/// Partitions that go away once this is dropped or its deadline has passed.
#[derive(Debug)]
pub struct Revocation {
    /// Which.
    pub partitions: Vec<i32>,
    /// Whether somebody else has them already, so that nothing may be written any more.
    pub lost: bool,
    pub(super) done: Option<oneshot::Sender<()>>,
}

impl Drop for Revocation {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            // The waiting side gives up at its deadline; then nobody has to be told.
            let _ = done.send(());
        }
    }
}

/// What a source is made of.
#[derive(Debug)]
pub struct SourceConfig {
    /// The connection.
    pub client: ClientConfig,
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The member's settings.
    pub member: GroupArgs,
    /// Whether deliveries hold their records: a copy that only those need who pass records on.
    pub keeps_records: bool,
    /// Deliveries that may wait for the pipeline.
    pub waiting_max: usize,
}

/// Deliveries handed over at a time, at most.
pub(crate) const CHUNK_DELIVERIES_MAX: usize = 256;

/// Memory of fetched records that wait in the consumer, in KiB.
const FETCHED_KBYTES_MAX: &str = "32768";

/// Bytes that a fetch waits for. Fetched as they come, 2,200 readings a second are as many fetches, and
/// keep half a core busy in Kafka and a quarter in the alerter.
const FETCH_BYTES_MIN: &str = "100000";

/// How long it waits for them, in milliseconds: what a lone reading pays. Ten cost a tenth of a core
/// more at that rate.
const FETCH_WAIT_MS_MAX: &str = "25";

/// How long the polling thread may be busy with a rebalance. Far beyond the claims and the drain that
/// one takes, or the group would give up a member that is only careful.
const POLL_INTERVAL_MAX: Duration = Duration::from_secs(300);

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

/// Whether this is for good, until somebody changes settings, ledger or topic.
pub(super) fn is_refused(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClaimError::Refused(_)))
}

impl Source {
    /// Joins the group; polling ends when `stop` is cancelled.
    pub fn start(
        config: SourceConfig,
        ledger: Ledger,
        stop: CancellationToken,
    ) -> Result<Self, KafkaError> {
        let mut client = config.client;
        config.member.apply(&mut client);
        client
            .set("group.id", &config.group)
            // A position outside the topic is a fact to be looked at, never a silent reset.
            .set("auto.offset.reset", "error")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "false")
            .set("max.poll.interval.ms", POLL_INTERVAL_MAX.as_millis().to_string())
            .set("queued.max.messages.kbytes", FETCHED_KBYTES_MAX)
            .set("fetch.min.bytes", FETCH_BYTES_MIN)
            .set("fetch.wait.max.ms", FETCH_WAIT_MS_MAX)
            .set("fetch.queue.backoff.ms", "20");
        let (control_sender, control) = mpsc::unbounded_channel();
        let (delivery_sender, deliveries) =
            mpsc::channel(config.waiting_max.div_ceil(CHUNK_DELIVERIES_MAX));
        let closing = CancellationToken::new();
        let assignment = Assignment::new(
            ledger,
            config.group.clone(),
            config.topic.clone(),
            control_sender.clone(),
            closing.clone(),
        );
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
                let poll = super::poll_thread::Poll { consumer, keeps_records, sender, stop };
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
                Ok((partition, end + consumer.context().base()))
            };
            partitions.into_iter().map(end).collect()
        });
        asked.await.unwrap_or(Err(KafkaError::Canceled))
    }

    /// Tells the group how far partitions are done, for lag tools; the ledger is the truth.
    pub fn commit(&self, next_offsets: impl IntoIterator<Item = (i32, i64)>) {
        let base = self.consumer.context().base();
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

/// Runs the polling thread. One that dies is no end in order: nothing would be read any more.
fn run_or_fail(control: &mpsc::UnboundedSender<Event>, run: impl FnOnce()) {
    // Nothing that it has touched is used again but through locks that are held by nobody.
    if catch_unwind(AssertUnwindSafe(run)).is_err() {
        // Where the pipeline is gone, the process is going down anyway.
        let _ = control.send(Event::Failed("the polling thread has panicked".into()));
    }
}

/// A stale generation's commit is no fault: the new owner goes on from the ledger.
pub(super) fn count_commit_error(error: &KafkaError) {
    let code = error.rdkafka_error_code();
    if code == Some(RDKafkaErrorCode::NoOffset) {
        return;
    }
    let code = code.map_or_else(|| "unknown".to_owned(), |code| format!("{code:?}"));
    metrics::counter!(COMMIT_ERRORS, "code" => code).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_polling_thread_that_dies_is_a_failure_and_one_that_stops_is_none() {
        let (control, mut events) = mpsc::unbounded_channel();
        run_or_fail(&control, || {});
        assert!(events.try_recv().is_err());
        run_or_fail(&control, || panic!("on purpose"));
        assert!(matches!(events.try_recv(), Ok(Event::Failed(_))));
    }
}
