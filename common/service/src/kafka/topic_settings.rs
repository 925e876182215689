//! Queries the settings of a topic as the brokers apply them. Changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;

/// The effective settings of a topic by name, broker defaults included.
pub type TopicSettings = BTreeMap<String, String>;

/// Returns the settings of a topic, within `timeout`. `None` if the brokers show none.
///
/// rdkafka drops the error of a topic, whatever the error is. An account without the right to
/// describe, a missing topic and a broker that fails look the same.
pub async fn topic_settings(
    admin: &AdminClient<DefaultClientContext>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<TopicSettings>, KafkaError> {
    let options = AdminOptions::new().request_timeout(Some(timeout));
    let described = admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options).await?;
    let described = described.into_iter().next().and_then(Result::ok);
    let entries = described.map(|resource| resource.entries).unwrap_or_default();
    let known = entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
    let settings: TopicSettings = known.collect();
    Ok((!settings.is_empty()).then_some(settings))
}
