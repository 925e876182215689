//! Queries Kafka for the state of a topic. Changes nothing.

use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;

use super::state::TopicState;
use crate::kafka::client::{KafkaArgs, REQUEST_TIMEOUT};
use crate::kafka::topic_settings::topic_settings;

/// Queries the topics of one cluster.
pub(super) struct TopicObserver {
    brokers: String,
    admin: Arc<AdminClient<DefaultClientContext>>,
}

impl TopicObserver {
    /// Creates an observer that connects on its first query. The brokers log it as `client_id`.
    pub(super) fn new(kafka: &KafkaArgs, client_id: &str) -> anyhow::Result<Self> {
        let admin = Arc::new(kafka.client_config(client_id).create()?);
        Ok(Self { brokers: kafka.brokers.clone(), admin })
    }

    /// Returns the present state of a topic. An answer that the topic is missing, or one without
    /// settings, may be wrong for a moment.
    pub(super) async fn observe(&self, topic: &str) -> anyhow::Result<TopicState> {
        let mut state = self.metadata(topic).await?;
        if state.partitions > 0 {
            state.settings = topic_settings(&self.admin, topic, REQUEST_TIMEOUT).await?;
        }
        Ok(state)
    }

    async fn metadata(&self, topic: &str) -> anyhow::Result<TopicState> {
        let (admin, name) = (Arc::clone(&self.admin), topic.to_owned());
        let brokers = self.brokers.clone();
        let queried = tokio::task::spawn_blocking(move || {
            let metadata = admin.inner().fetch_metadata(Some(name.as_str()), REQUEST_TIMEOUT);
            let metadata =
                metadata.with_context(|| format!("Kafka at {brokers} does not answer"))?;
            let found = metadata.topics().iter().find(|found| found.name() == name);
            let found =
                found.with_context(|| format!("the brokers say nothing of topic {name}"))?;
            let mut state =
                TopicState { brokers: metadata.brokers().len(), ..TopicState::default() };
            match found.error().map(RDKafkaErrorCode::from) {
                None => {}
                Some(
                    RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::TopicAuthorizationFailed,
                ) => return Ok(state),
                Some(code) => bail!("the brokers do not describe topic {name}: {code}"),
            }
            let partitions = found.partitions();
            ensure!(!partitions.is_empty(), "the brokers name no partition of topic {name}");
            let replicas = partitions.iter().map(|partition| partition.replicas().len());
            state.replicas = replicas.min().unwrap_or_default();
            state.partitions = partitions.len();
            anyhow::Ok(state)
        });
        queried.await?
    }
}
