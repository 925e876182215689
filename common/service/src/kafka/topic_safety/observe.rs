//! Queries Kafka for the state of a topic. Changes nothing.

use std::sync::Arc;

use anyhow::Context;
use jiff::Timestamp;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use super::settings::RETENTION_BYTES;
use super::state::{TopicRole, TopicState};
use crate::kafka::client::{KafkaArgs, REQUEST_TIMEOUT};
use crate::kafka::topic_reader::TopicReader;

/// Time over which the rate of a topic is counted, in milliseconds.
const RATE_WINDOW_MS: i64 = 3_600_000;

/// Queries the topics of one cluster.
pub(super) struct TopicObserver {
    kafka: KafkaArgs,
    client_id: &'static str,
    admin: Arc<AdminClient<DefaultClientContext>>,
}

impl TopicObserver {
    /// Creates an observer that connects on its first query. The brokers log it as `client_id`.
    pub(super) fn new(kafka: &KafkaArgs, client_id: &'static str) -> anyhow::Result<Self> {
        let admin = Arc::new(kafka.client_config(client_id).create()?);
        Ok(Self { kafka: kafka.clone(), client_id, admin })
    }

    /// Returns the present state of a topic.
    pub(super) async fn observe(&self, topic: &str, role: TopicRole) -> anyhow::Result<TopicState> {
        let mut state = self.metadata(topic).await?;
        if state.partitions == 0 {
            return Ok(state);
        }
        self.describe(topic, &mut state).await?;
        let limited = state.setting::<i64>(RETENTION_BYTES).is_some_and(|bytes| bytes >= 0);
        if limited && role == TopicRole::Readings {
            state.hour_records = self.hour_records(topic).await;
        }
        Ok(state)
    }

    async fn metadata(&self, topic: &str) -> anyhow::Result<TopicState> {
        let (admin, name) = (Arc::clone(&self.admin), topic.to_owned());
        let queried = tokio::task::spawn_blocking(move || {
            let metadata = admin.inner().fetch_metadata(Some(name.as_str()), REQUEST_TIMEOUT)?;
            let found = metadata.topics().iter().find(|found| found.name() == name);
            let partitions = found.map(|found| found.partitions()).unwrap_or_default();
            let replicas = partitions.iter().map(|partition| partition.replicas().len());
            anyhow::Ok(TopicState {
                partitions: partitions.len(),
                replicas: replicas.min().unwrap_or_default(),
                brokers: metadata.brokers().len(),
                ..TopicState::default()
            })
        });
        queried.await?.with_context(|| format!("Kafka at {} does not answer", self.kafka.brokers))
    }

    async fn describe(&self, topic: &str, state: &mut TopicState) -> anyhow::Result<()> {
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
        let resources = [ResourceSpecifier::Topic(topic)];
        let described = self.admin.describe_configs(&resources, &options).await?;
        let described = described.into_iter().next().and_then(Result::ok);
        let entries = described.map(|resource| resource.entries).unwrap_or_default();
        // rdkafka drops the error of a resource and returns it without settings.
        if !entries.is_empty() {
            let known = entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
            state.settings = Some(known.collect());
        }
        Ok(())
    }

    /// Returns the number of records of the last hour. `None` if Kafka does not answer.
    async fn hour_records(&self, topic: &str) -> Option<i64> {
        let (kafka, client_id, topic) = (self.kafka.clone(), self.client_id, topic.to_owned());
        let start_ms = Timestamp::now().as_millisecond() - RATE_WINDOW_MS;
        let counted = tokio::task::spawn_blocking(move || {
            let reader = TopicReader::new(&kafka, client_id)?;
            let ends = reader.ends(&topic)?.unwrap_or_default();
            let starts = reader.at_time(&topic, &ends, start_ms)?;
            let counts = ends.iter().map(|(partition, end)| {
                end.high - starts.get(partition).copied().unwrap_or(end.high)
            });
            anyhow::Ok(counts.sum::<i64>())
        });
        counted.await.ok()?.ok()
    }
}
