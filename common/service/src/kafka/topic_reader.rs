//! Reads topics: their watermarks, offsets at a time, ranges of records. Assigns partitions without
//! joining a group and never commits, so reading changes nothing.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use tracing::warn;

use super::client::{KafkaArgs, REQUEST_TIMEOUT};
use super::error_log::ErrorLog;
use super::group_members::group_members;
use super::topic_ends::TopicEnds;
pub use super::topic_ends::{OffsetRanges, TopicWatermarks, Watermarks, whole};
use super::topic_identity::TopicIdentity;

/// Longest wait of one poll for a record.
const POLL_WAIT: Duration = Duration::from_millis(200);

/// Longest time without a record from Kafka while records are left to read.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Factor by which the search for the last record widens while it finds none.
const LOOK_BACK_FACTOR: i64 = 16;

/// A reader of topics. All its methods block.
pub struct TopicReader {
    consumer: BaseConsumer<ReaderContext>,
    /// The topic whose offsets are counted as in the ledger, and the base that is added to Kafka's
    /// offsets.
    base: OnceLock<(String, i64)>,
}

/// The context of a reader. Ignores the end of a partition, which is an expected answer. The library
/// would log it as an error.
#[derive(Debug, Default)]
pub struct ReaderContext(ErrorLog);

impl ClientContext for ReaderContext {
    fn error(&self, error: KafkaError, reason: &str) {
        let is_end = error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF);
        if !is_end && self.0.admits(&error) {
            warn!(%error, reason, "Kafka reader reported an error");
        }
    }
}

impl ConsumerContext for ReaderContext {}

impl TopicReader {
    /// Creates a reader that connects on first use. The brokers log it as `client_id`.
    pub fn new(kafka: &KafkaArgs, client_id: &str) -> anyhow::Result<Self> {
        let mut config = kafka.client_config(client_id);
        config.set("enable.partition.eof", "true");
        Self::with(config, client_id)
    }

    /// Creates a reader for single records that fetches hardly more.
    pub fn of_single_records(kafka: &KafkaArgs, client_id: &str) -> anyhow::Result<Self> {
        let mut config = kafka.client_config(client_id);
        config
            .set("fetch.message.max.bytes", "1024")
            .set("queued.min.messages", "1")
            .set("enable.partition.eof", "true");
        Self::with(config, client_id)
    }

    fn with(mut config: ClientConfig, client_id: &str) -> anyhow::Result<Self> {
        let consumer = config
            // No group is joined, but librdkafka requires a group id before an assignment.
            .set("group.id", client_id)
            .set("enable.auto.commit", "false")
            // Retention may delete records meanwhile. The next record that is left follows.
            .set("auto.offset.reset", "earliest")
            .create_with_context(ReaderContext::default())?;
        Ok(Self { consumer, base: OnceLock::new() })
    }

    /// Returns the identity of the topic that has this name now. `None` if there is no such topic.
    pub fn identity(&self, topic: &str, within: Duration) -> anyhow::Result<Option<TopicIdentity>> {
        TopicIdentity::query(self.consumer.client(), topic, within).context("Kafka does not answer")
    }

    /// From now on converts the offsets of this topic to and from those of the ledger.
    pub fn count_from(&self, topic: &str, base: i64) {
        self.base.get_or_init(|| (topic.to_owned(), base));
    }

    /// Returns the base that is added to Kafka's offsets of this topic.
    pub fn base(&self, topic: &str) -> i64 {
        self.base.get().filter(|(name, _)| name == topic).map_or(0, |(_, base)| *base)
    }

    /// Returns the offset of a record that this reader read.
    pub fn offset(&self, message: &BorrowedMessage<'_>) -> i64 {
        message.offset() + self.base(message.topic())
    }

    /// Returns the watermarks of a topic. `None` if there is no such topic. Fails if a partition
    /// does not answer.
    pub fn ends(&self, topic: &str) -> anyhow::Result<Option<TopicWatermarks>> {
        let Some(mut ends) = self.known_ends(topic, REQUEST_TIMEOUT)? else { return Ok(None) };
        for partition in ends.unanswered {
            // The partition may have a leader again within the time.
            let (low, high) = self
                .consumer
                .fetch_watermarks(topic, partition, REQUEST_TIMEOUT)
                .with_context(|| format!("partition {partition} of {topic}"))?;
            let base = self.base(topic);
            ends.known.insert(partition, Watermarks { low: low + base, high: high + base });
        }
        Ok(Some(ends.known))
    }

    /// Like [`Self::ends`], as far as the brokers answer, each `within` this time.
    pub fn known_ends(&self, topic: &str, within: Duration) -> anyhow::Result<Option<TopicEnds>> {
        let ends = TopicEnds::query(self.consumer.client(), topic, |_| true, within)
            .context("Kafka does not answer")?;
        Ok(ends.map(|ends| ends.counted_from(self.base(topic))))
    }

    /// Returns the first offset of each partition whose record is not older than `at_ms`.
    pub fn at_time(
        &self,
        topic: &str,
        ends: &TopicWatermarks,
        at_ms: i64,
    ) -> anyhow::Result<BTreeMap<i32, i64>> {
        let mut asked = TopicPartitionList::new();
        for partition in ends.keys() {
            asked.add_partition_offset(topic, *partition, Offset::Offset(at_ms))?;
        }
        let found = self.consumer.offsets_for_times(asked, REQUEST_TIMEOUT)?;
        let mut offsets = BTreeMap::new();
        for element in found.elements() {
            element.error()?;
            let end = ends.get(&element.partition()).map_or(0, |ends| ends.high);
            let offset = match element.offset() {
                Offset::Offset(offset) => offset + self.base(topic),
                _ => end,
            };
            offsets.insert(element.partition(), offset);
        }
        Ok(offsets)
    }

    /// Passes every record that is left in these ranges to `visit`.
    pub fn read(
        &self,
        topic: &str,
        ranges: &OffsetRanges,
        mut visit: impl FnMut(&BorrowedMessage<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let base = self.base(topic);
        let mut assignment = TopicPartitionList::new();
        let mut ends = BTreeMap::new();
        for (partition, range) in ranges.iter().filter(|(_, range)| !range.is_empty()) {
            let start = Offset::Offset(range.start - base);
            assignment.add_partition_offset(topic, *partition, start)?;
            ends.insert(*partition, range.end - base);
        }
        if ends.is_empty() {
            return Ok(());
        }
        self.consumer.assign(&assignment)?;
        let mut received_at = Instant::now();
        while !ends.is_empty() {
            ensure!(
                received_at.elapsed() < IDLE_MAX,
                "Kafka brought nothing of {topic} for {} s",
                IDLE_MAX.as_secs()
            );
            match self.consumer.poll(POLL_WAIT) {
                None => {}
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ends.remove(&partition);
                }
                // Most errors have come to the context already.
                Some(Err(error)) if self.consumer.context().0.admits(&error) => {
                    warn!(%error, topic, "cannot read from Kafka, retrying");
                }
                Some(Err(_)) => {}
                Some(Ok(message)) => {
                    if let Some(end) = ends.get(&message.partition()).copied() {
                        if message.offset() < end {
                            visit(&message)?;
                        }
                        if message.offset() + 1 >= end {
                            ends.remove(&message.partition());
                        }
                    }
                    // Kafka is not idle while `visit` works, and `visit` may take long.
                    received_at = Instant::now();
                }
            }
        }
        self.consumer.unassign()?;
        Ok(())
    }

    /// Returns the end of the records in these ranges: the offset after the last readable record.
    /// Offsets without a record may follow, such as transaction markers and aborted records. The
    /// end of a range without a record is its start.
    pub fn record_ends(
        &self,
        topic: &str,
        ranges: &OffsetRanges,
    ) -> anyhow::Result<BTreeMap<i32, i64>> {
        let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
        let mut open = ranges.clone();
        let mut back = 1;
        while !open.is_empty() {
            let tail = |range: &Range<i64>| (range.end - back).max(range.start)..range.end;
            let tails = open.iter().map(|(partition, all)| (*partition, tail(all))).collect();
            self.read(topic, &tails, |message| {
                ends.insert(message.partition(), self.offset(message) + 1);
                Ok(())
            })?;
            open.retain(|partition, all| {
                !ends.contains_key(partition) && all.end - back > all.start
            });
            back *= LOOK_BACK_FACTOR;
        }
        let end = |(partition, all): (&i32, &Range<i64>)| {
            (*partition, ends.get(partition).copied().unwrap_or(all.start))
        };
        Ok(ranges.iter().map(end).collect())
    }

    /// Returns the Kafka record times of the first records at or after these offsets, by partition,
    /// in milliseconds since 1970. `None` if no record follows. Leaves out partitions whose answer
    /// does not arrive `within` this time.
    pub fn times(
        &self,
        topic: &str,
        offsets: &BTreeMap<i32, i64>,
        within: Duration,
    ) -> anyhow::Result<BTreeMap<i32, Option<i64>>> {
        let mut assignment = TopicPartitionList::new();
        for (partition, offset) in offsets {
            let offset = Offset::Offset(offset - self.base(topic));
            assignment.add_partition_offset(topic, *partition, offset)?;
        }
        self.consumer.assign(&assignment)?;
        let deadline = Instant::now() + within;
        let mut times = BTreeMap::new();
        while times.len() < offsets.len() && Instant::now() < deadline {
            match self.consumer.poll(POLL_WAIT) {
                Some(Ok(message)) => {
                    let time = message.timestamp().to_millis();
                    times.entry(message.partition()).or_insert(time);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    times.entry(partition).or_insert(None);
                }
                // Partitions without an answer are queried again by the next call.
                Some(Err(_)) | None => {}
            }
        }
        self.consumer.unassign()?;
        Ok(times)
    }

    /// Passes the records of a range to `visit` until it breaks, or `within` is over. Returns the
    /// offset up to which no record is left to pass.
    pub fn scan(
        &self,
        topic: &str,
        partition: i32,
        range: Range<i64>,
        within: Duration,
        mut visit: impl FnMut(&BorrowedMessage<'_>) -> ControlFlow<()>,
    ) -> anyhow::Result<i64> {
        let mut assignment = TopicPartitionList::new();
        let start = Offset::Offset(range.start - self.base(topic));
        assignment.add_partition_offset(topic, partition, start)?;
        self.consumer.assign(&assignment)?;
        let deadline = Instant::now() + within;
        let mut next = range.start;
        while next < range.end && Instant::now() < deadline {
            match self.consumer.poll(POLL_WAIT) {
                Some(Ok(message)) if self.offset(&message) < range.end => {
                    next = self.offset(&message) + 1;
                    if visit(&message).is_break() {
                        break;
                    }
                }
                Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => next = range.end,
                Some(Err(_)) | None => {}
            }
        }
        self.consumer.unassign()?;
        Ok(next)
    }

    /// Returns the members of a consumer group, whatever its protocol.
    pub fn members(&self, group: &str) -> anyhow::Result<Vec<String>> {
        group_members(self.consumer.client(), group, REQUEST_TIMEOUT)
            .with_context(|| format!("Kafka does not describe group {group}"))
    }
}
