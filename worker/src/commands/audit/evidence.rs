//! The values that the audit compares.

use std::collections::BTreeMap;

use ljwx_service::kafka::topic_reader::TopicWatermarks;

use super::dead_letters::DeadLetterIndex;
use super::snapshot::Snapshot;

/// The values that the audit has read from MySQL and Kafka.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The ledger and the rows that it counts.
    pub mysql: Snapshot,
    /// Watermarks of the readings topic; `None` if there is no topic of this name, or if it is
    /// another topic than the ledger's.
    pub readings: Option<TopicWatermarks>,
    /// The reason, if the topic is another one than the ledger's.
    pub other_topic: Option<String>,
    /// Ends of the records in the topic's partitions. Later offsets are no readings.
    pub record_ends: BTreeMap<i32, i64>,
    /// The dead letters.
    pub dead_letters: DeadLetterIndex,
}

impl Evidence {
    /// Returns the offset after a partition's last record; 0 if the topic does not have the
    /// partition.
    pub fn end(&self, partition: i32) -> i64 {
        let high = || self.readings.as_ref()?.get(&partition).map(|ends| ends.high);
        self.record_ends.get(&partition).copied().or_else(high).unwrap_or_default()
    }
}
