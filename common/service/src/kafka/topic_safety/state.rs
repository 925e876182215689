//! The state of a topic, the requirements on it, and what was found.

use std::str::FromStr;

use crate::kafka::topic_settings::TopicSettings;

/// The content of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicRole {
    /// Readings.
    Readings,
    /// Rejects.
    Rejects,
    /// Dead letters of a group.
    DeadLetters,
}

/// A topic to watch.
#[derive(Debug, Clone)]
pub struct WatchedTopic {
    /// Name of the topic.
    pub name: String,
    /// Its content.
    pub role: TopicRole,
    /// Largest record that the service publishes to the topic, in bytes; 0 for a reader.
    pub record_bytes: usize,
}

/// The consequence of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Shown to operators.
    Warned,
    /// The topic must not be used.
    Refused,
}

/// One unsafe setting of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The setting, or a word such as `existence`.
    pub setting: &'static str,
    /// The value of the setting.
    pub value: String,
    /// The consequence.
    pub level: Level,
    /// Topic, setting, value, reason and remedy.
    pub message: String,
}

/// The observed state of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicState {
    /// Number of partitions; 0 if there is no such topic.
    pub partitions: usize,
    /// Replicas of the partition that has fewest.
    pub replicas: usize,
    /// Number of brokers of the cluster.
    pub brokers: usize,
    /// The effective settings, broker defaults included. `None` if Kafka did not show them.
    pub settings: Option<TopicSettings>,
}

/// The requirements of a service on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirements {
    /// The content of the topic.
    pub role: TopicRole,
    /// Largest record that the service publishes to the topic, in bytes.
    pub record_bytes: usize,
    /// Number of partitions when the service first saw the topic, if known.
    pub partitions_at_start: Option<usize>,
    /// Least number of partitions.
    pub partitions_min: usize,
    /// Whether a cluster of fewer than three brokers is as wanted.
    pub development: bool,
    /// Whether warnings of replication, insync replicas and leader election are refusals, and
    /// settings that cannot be seen.
    pub require_safe: bool,
}

impl TopicState {
    /// Returns the value of a setting. `None` if it is unknown, or not of this type.
    pub(super) fn setting<T: FromStr>(&self, name: &str) -> Option<T> {
        self.settings.as_ref()?.get(name)?.parse().ok()
    }
}
