//! Reads topics as they are, without a consumer group.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DefaultProducerContext, Producer, ThreadedProducer,
};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::stack::wait::eventually;

/// The longest that Kafka may take for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The longest that reading a part of a topic may take.
const READ_WITHIN: Duration = Duration::from_secs(60);

/// A record of a topic.
#[derive(Debug, Clone)]
pub struct Record {
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value. Empty for a tombstone.
    pub value: Vec<u8>,
    /// Whether the record has no value.
    pub is_tombstone: bool,
    /// The headers, in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The Kafka record time in milliseconds.
    pub timestamp_ms: i64,
}

impl Record {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }
}

/// The first and the next offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// The partition.
    pub partition: i32,
    /// Offset of the first record.
    pub low: i64,
    /// Offset of the next record.
    pub high: i64,
}

/// Returns the ends of every partition of a topic.
pub async fn watermarks(brokers: &str, topic: &str) -> anyhow::Result<Vec<Watermarks>> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || ends(&consumer(&brokers)?, &topic)).await?
}

/// Returns all records of a topic, partition by partition.
pub async fn records(brokers: &str, topic: &str) -> anyhow::Result<Vec<Record>> {
    let mut reader = TopicReader::from_start(brokers, topic).await?;
    reader.read_new().await
}

/// Reads a topic in steps.
pub struct TopicReader {
    brokers: String,
    topic: String,
    next: Vec<(i32, i64)>,
}

impl TopicReader {
    /// Begins with the first record.
    pub async fn from_start(brokers: &str, topic: &str) -> anyhow::Result<Self> {
        let ends = watermarks(brokers, topic).await?;
        let next = ends.iter().map(|end| (end.partition, end.low)).collect();
        Ok(Self { brokers: brokers.into(), topic: topic.into(), next })
    }

    /// Begins with the next record.
    pub async fn from_now(brokers: &str, topic: &str) -> anyhow::Result<Self> {
        let ends = watermarks(brokers, topic).await?;
        let next = ends.iter().map(|end| (end.partition, end.high)).collect();
        Ok(Self { brokers: brokers.into(), topic: topic.into(), next })
    }

    /// Returns the records added since the last call.
    pub async fn read_new(&mut self) -> anyhow::Result<Vec<Record>> {
        let (brokers, topic, next) = (self.brokers.clone(), self.topic.clone(), self.next.clone());
        let (records, ends) =
            tokio::task::spawn_blocking(move || read(&brokers, &topic, &next)).await??;
        self.next = ends.iter().map(|end| (end.partition, end.high)).collect();
        Ok(records)
    }
}

/// Adds a record without a key to a partition.
pub async fn produce(
    brokers: &str,
    topic: &str,
    partition: i32,
    value: &[u8],
    headers: &[(&str, String)],
) -> anyhow::Result<()> {
    produce_record(brokers, topic, partition, None, Some(value), headers).await
}

/// Adds a record to a partition. A record without a value is a tombstone.
pub async fn produce_record(
    brokers: &str,
    topic: &str,
    partition: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(&str, String)],
) -> anyhow::Result<()> {
    let producer: BaseProducer = config(brokers).create()?;
    let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value) })
    });
    let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition).headers(headers);
    record.key = key;
    record.payload = value;
    producer.send(record).map_err(|(error, _)| error)?;
    tokio::task::spawn_blocking(move || producer.flush(ANSWER_WITHIN)).await??;
    Ok(())
}

/// Adds records with their keys, in their order, as fast as Kafka takes them.
pub async fn fill(brokers: &str, topic: &str, records: &[(String, Vec<u8>)]) -> anyhow::Result<()> {
    fill_compressed(brokers, topic, "none", records).await
}

/// Like [`fill`], in batches written with a codec.
pub async fn fill_compressed(
    brokers: &str,
    topic: &str,
    codec: &str,
    records: &[(String, Vec<u8>)],
) -> anyhow::Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = config(brokers)
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.messages", "1000000")
        .set("compression.type", codec)
        .create()?;
    for (key, value) in records {
        let record = BaseRecord::to(topic).key(key).payload(value);
        producer.send(record).map_err(|(error, _)| error).context("cannot fill the topic")?;
    }
    tokio::task::spawn_blocking(move || producer.flush(READ_WITHIN)).await??;
    Ok(())
}

/// Deletes the records of a partition before `offset`, as retention does.
pub async fn delete_before(
    brokers: &str,
    topic: &str,
    partition: i32,
    offset: i64,
) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = config(brokers).create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    let options = AdminOptions::new().operation_timeout(Some(ANSWER_WITHIN));
    for element in admin.delete_records(&list, &options).await?.elements() {
        element.error()?;
    }
    Ok(())
}

/// Sets how long Kafka keeps a topic's records, in milliseconds. Kafka replaces a topic's settings
/// as a whole, so the largest record is set again.
pub async fn set_retention(brokers: &str, topic: &str, milliseconds: i64) -> anyhow::Result<()> {
    let bytes = ljwx_service::kafka::MESSAGE_BYTES_MAX.to_string();
    let settings = [("retention.ms", milliseconds.to_string()), ("max.message.bytes", bytes)];
    set(brokers, topic, &settings).await
}

/// Sets the largest record of a topic, in bytes. The topic's other settings become the broker's.
pub async fn set_record_bytes_max(brokers: &str, topic: &str, bytes: usize) -> anyhow::Result<()> {
    set(brokers, topic, &[("max.message.bytes", bytes.to_string())]).await
}

/// Gives a topic these settings, and the largest record of a new topic unless it is one of them.
/// All others become the broker's.
pub async fn configure(
    brokers: &str,
    topic: &str,
    settings: &[(&str, &str)],
) -> anyhow::Result<()> {
    // A later value of a setting replaces an earlier one.
    let mut all = vec![("max.message.bytes", ljwx_service::kafka::MESSAGE_BYTES_MAX.to_string())];
    all.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
    set(brokers, topic, &all).await
}

async fn set(brokers: &str, topic: &str, settings: &[(&str, String)]) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = config(brokers).create()?;
    let options = AdminOptions::new().operation_timeout(Some(ANSWER_WITHIN));
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic));
    let change = settings.iter().fold(change, |change, (name, value)| change.set(name, value));
    for altered in admin.alter_configs([&change], &options).await? {
        altered.map_err(|(resource, code)| anyhow::anyhow!("{resource:?}: {code}"))?;
    }
    Ok(())
}

/// Gives a topic more partitions.
pub async fn add_partitions(brokers: &str, topic: &str, count: usize) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = config(brokers).create()?;
    let options = AdminOptions::new().operation_timeout(Some(ANSWER_WITHIN));
    for added in admin.create_partitions([&NewPartitions::new(topic, count)], &options).await? {
        added.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    Ok(())
}

/// Deletes a topic and recreates it at once, as a script does.
pub async fn remake_topic(brokers: &str, topic: &str, partitions: usize) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = config(brokers).create()?;
    let options = AdminOptions::new().operation_timeout(Some(ANSWER_WITHIN));
    for deleted in admin.delete_topics(&[topic], &options).await? {
        deleted.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    let anew = NewTopic::new(topic, i32::try_from(partitions)?, TopicReplication::Fixed(1));
    eventually(ANSWER_WITHIN, "the topic is made anew", || async {
        let made = admin.create_topics([&anew], &options).await?;
        Ok(made.iter().all(Result::is_ok).then_some(()))
    })
    .await
}

/// Deletes a topic and the topics derived from it, such as its dead-letter topic.
pub async fn remove_topics(brokers: &str, prefix: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = config(brokers).create()?;
    let names = topic_names(brokers, prefix).await?;
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    if !names.is_empty() {
        admin.delete_topics(&names, &AdminOptions::new()).await?;
    }
    Ok(())
}

/// Returns the names of the topics that begin with `prefix`.
pub async fn topic_names(brokers: &str, prefix: &str) -> anyhow::Result<Vec<String>> {
    let (brokers, prefix) = (brokers.to_owned(), prefix.to_owned());
    tokio::task::spawn_blocking(move || topics(&brokers, &prefix)).await?
}

fn topics(brokers: &str, prefix: &str) -> anyhow::Result<Vec<String>> {
    let metadata = consumer(brokers)?.fetch_metadata(None, ANSWER_WITHIN)?;
    let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
    Ok(names.filter(|name| name.starts_with(prefix)).collect())
}

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    // No group is ever joined; the library only needs the name.
    config
        .set("bootstrap.servers", brokers)
        .set("group.id", "tests")
        .set("message.max.bytes", (2 * ljwx_service::kafka::MESSAGE_BYTES_MAX).to_string())
        .set("fetch.wait.max.ms", "20");
    config
}

fn consumer(brokers: &str) -> anyhow::Result<BaseConsumer> {
    Ok(config(brokers).create()?)
}

fn ends(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<Vec<Watermarks>> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_WITHIN)?;
    let partitions = metadata.topics().first().context("no such topic")?.partitions();
    partitions
        .iter()
        .map(|partition| {
            let partition = partition.id();
            let (low, high) = consumer.fetch_watermarks(topic, partition, ANSWER_WITHIN)?;
            Ok(Watermarks { partition, low, high })
        })
        .collect()
}

fn read(
    brokers: &str,
    topic: &str,
    from: &[(i32, i64)],
) -> anyhow::Result<(Vec<Record>, Vec<Watermarks>)> {
    let consumer = consumer(brokers)?;
    let ends = ends(&consumer, topic)?;
    let mut assignment = TopicPartitionList::new();
    let mut left = 0;
    for end in &ends {
        let start = from.iter().find(|(partition, _)| *partition == end.partition);
        let start = start.map_or(end.low, |(_, offset)| *offset);
        if start < end.high {
            left += end.high - start;
            assignment.add_partition_offset(topic, end.partition, Offset::Offset(start))?;
        }
    }
    let mut records = Vec::new();
    if left == 0 {
        return Ok((records, ends));
    }
    consumer.assign(&assignment)?;
    let until = Instant::now() + READ_WITHIN;
    while left > 0 {
        if Instant::now() > until {
            bail!("{left} records of {topic} could not be read within {READ_WITHIN:?}");
        }
        let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
        let message = message?;
        // Records may be added during the read; the next call returns them.
        let end = ends.iter().find(|end| end.partition == message.partition());
        if end.is_some_and(|end| message.offset() < end.high) {
            left -= 1;
            records.push(record(&message));
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok((records, ends))
}

fn record(message: &impl Message) -> Record {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Record {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(Into::into),
        value: message.payload().unwrap_or_default().into(),
        is_tombstone: message.payload().is_none(),
        headers: headers
            .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
            .collect(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
    }
}
