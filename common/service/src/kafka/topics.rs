//! Checks topics, creates missing ones and adds partitions.
//!
//! Only `worker migrate` creates topics and adds partitions. `topic_safety` watches them.

use std::time::Duration;

use anyhow::Context;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaErrorCode;

use super::client::{KafkaArgs, REQUEST_TIMEOUT};
use super::topic_settings::{TopicSettings, topic_settings};

impl KafkaArgs {
    /// Returns the name of a consumer group's dead-letter topic.
    pub fn dead_letter_topic(&self, group: &str) -> String {
        format!("{}.{group}.dlq", self.readings_topic)
    }

    /// Returns the number of partitions of a topic. `None` if there is no such topic. Blocks.
    pub fn partitions(&self, topic: &str) -> anyhow::Result<Option<usize>> {
        Ok(self.topic_counts(topic)?.partitions)
    }

    /// Queries one topic only: a client without the right to see other topics may see this one.
    /// Blocks.
    fn topic_counts(&self, topic: &str) -> anyhow::Result<TopicCounts> {
        let client: BaseConsumer = self.client_config("ljwx-check").create()?;
        let metadata = client
            .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
            .with_context(|| format!("Kafka at {} does not answer", self.brokers))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.map(|found| found.partitions().len()).filter(|count| *count > 0);
        Ok(TopicCounts { brokers: metadata.brokers().len(), partitions })
    }

    /// Returns the settings of a topic. `None` if the brokers show none. The brokers log the query as
    /// `client_id`.
    pub async fn topic_settings(
        &self,
        client_id: &str,
        topic: &str,
    ) -> anyhow::Result<Option<TopicSettings>> {
        let admin: AdminClient<DefaultClientContext> = self.client_config(client_id).create()?;
        Ok(topic_settings(&admin, topic, REQUEST_TIMEOUT).await?)
    }
}

/// The answer about one topic.
struct TopicCounts {
    /// Number of brokers of the cluster.
    brokers: usize,
    /// Number of partitions, if the topic exists.
    partitions: Option<usize>,
}

/// A topic as `worker migrate` creates it.
#[derive(Debug, Clone)]
pub struct TopicSpec {
    /// Name of the topic.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Time for which records are kept.
    pub retention: Duration,
    /// Most bytes of a partition, beyond which its oldest records are deleted. `None`: the broker's
    /// default.
    pub retention_bytes: Option<u64>,
    /// Largest record, in bytes.
    pub message_bytes_max: usize,
}

/// Readings are kept 7 days: time to fix a failed consumer.
pub const READINGS_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// Rejects and dead letters are kept 90 days: a person has to inspect them.
pub const DEAD_LETTER_RETENTION: Duration = Duration::from_secs(90 * 24 * 3600);

/// Most bytes of a partition of rejects or dead letters: a flood must not fill the brokers' disks,
/// on which the readings are, too.
pub const REJECTS_RETENTION_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Largest record: above the largest body that the gateway accepts, because a body may become one
/// reject.
pub const MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Largest dead letter: an unchanged record of the largest size, and the headers with its origin.
pub const DEAD_LETTER_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 64 * 1024;

/// Replicas of a created topic, and least number of brokers without `--development`.
const REPLICAS: usize = 3;

/// Creates the missing topics, with three replicas if there are at least three brokers, and with one
/// in development. Returns the names of the created topics.
///
/// Existing topics are not changed, and need no right to create topics.
pub async fn create_missing(kafka: &KafkaArgs, specs: &[TopicSpec]) -> anyhow::Result<Vec<String>> {
    let admin: AdminClient<DefaultClientContext> = kafka.client_config("ljwx-migrate").create()?;
    let mut created = Vec::new();
    for spec in specs {
        let (asked, name) = (kafka.clone(), spec.name.clone());
        let found = tokio::task::spawn_blocking(move || asked.topic_counts(&name)).await??;
        if found.partitions.is_some() {
            continue;
        }
        let replicated = found.brokers >= REPLICAS;
        anyhow::ensure!(
            replicated || kafka.development,
            "topic {} is missing, and {} broker(s) cannot keep {REPLICAS} replicas: add brokers, or \
             set --development (DEVELOPMENT=true) to create it with one replica",
            spec.name,
            found.brokers
        );
        let retention = spec.retention.as_millis().to_string();
        let bytes = spec.message_bytes_max.to_string();
        let retention_bytes = spec.retention_bytes.map(|bytes| bytes.to_string());
        let topic = NewTopic::new(
            &spec.name,
            spec.partitions,
            TopicReplication::Fixed(if replicated { 3 } else { 1 }),
        )
        .set("retention.ms", &retention)
        .set("max.message.bytes", &bytes)
        .set("min.insync.replicas", if replicated { "2" } else { "1" });
        let topic = match &retention_bytes {
            Some(bytes) => topic.set("retention.bytes", bytes),
            None => topic,
        };
        let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT));
        for result in admin.create_topics([&topic], &options).await? {
            match result {
                Ok(name) => created.push(name),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => anyhow::bail!("cannot create topic {name}: {code}"),
            }
        }
    }
    Ok(created)
}

/// Raises the number of partitions of `topic` to `count`. Returns `true` if the topic had fewer.
pub async fn extend(kafka: &KafkaArgs, topic: &str, count: usize) -> anyhow::Result<bool> {
    let (asked, name) = (kafka.clone(), topic.to_owned());
    let found = tokio::task::spawn_blocking(move || asked.partitions(&name)).await??;
    if found.is_none_or(|found| found >= count) {
        return Ok(false);
    }
    let admin: AdminClient<DefaultClientContext> = kafka.client_config("ljwx-migrate").create()?;
    let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT));
    for result in admin.create_partitions([&NewPartitions::new(topic, count)], &options).await? {
        result.map_err(|(topic, code)| {
            anyhow::anyhow!("cannot give topic {topic} {count} partitions: {code}")
        })?;
    }
    Ok(true)
}
