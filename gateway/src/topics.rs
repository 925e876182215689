//! Watches the topics that the gateway publishes to.

use ljwx_service::kafka::KafkaArgs;
use ljwx_service::kafka::topic_safety::state::TopicRole;
use ljwx_service::kafka::topic_safety::watch::{TopicSafety, WatchedTopic, start};
use ljwx_service::lifecycle::EssentialTasks;
use tokio_util::sync::CancellationToken;

/// Watches both topics until `stop`. A body may become a record of `record_bytes` in either.
pub fn watch(
    kafka: &KafkaArgs,
    record_bytes: usize,
    essential: &EssentialTasks,
    stop: &CancellationToken,
) -> anyhow::Result<TopicSafety> {
    let topics =
        [(&kafka.readings_topic, TopicRole::Readings), (&kafka.rejects_topic, TopicRole::Rejects)];
    let topics = topics.map(|(name, role)| WatchedTopic { name: name.clone(), role, record_bytes });
    start(kafka, "gateway-check", topics.into(), essential, stop)
}
