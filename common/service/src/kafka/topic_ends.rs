//! Queries the watermarks and the replicas of a topic's partitions, as far as the brokers answer.
//!
//! A partition without a leader does not hide the others. Leaves to the callers what a missing
//! answer means.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::KafkaResult;
use serde::Serialize;

/// Metadata's number for the leader of a partition that has none.
const NO_LEADER: i32 = -1;

/// The watermarks of one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Watermarks {
    /// Offset of the first record.
    pub low: i64,
    /// Offset of the next record.
    pub high: i64,
}

/// The watermarks of a topic's partitions.
pub type TopicWatermarks = BTreeMap<i32, Watermarks>;

/// A range of offsets of each partition.
pub type OffsetRanges = BTreeMap<i32, Range<i64>>;

/// Returns the ranges of the whole topic.
pub fn whole(ends: &TopicWatermarks) -> OffsetRanges {
    ends.iter().map(|(partition, ends)| (*partition, ends.low..ends.high)).collect()
}

/// The answers about a topic's partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicEnds {
    /// The watermarks of the partitions whose leaders answered.
    pub known: TopicWatermarks,
    /// The partitions without an answer. They are not empty.
    pub unanswered: BTreeSet<i32>,
    /// The number of in-sync replicas of each partition that has a leader.
    pub insync: BTreeMap<i32, usize>,
}

impl TopicEnds {
    /// Queries the partitions of a topic that are `wanted`. Returns `None` if there is no such
    /// topic. Blocks, at most `within` for the metadata and for each broker.
    pub fn query<C: ClientContext>(
        client: &Client<C>,
        topic: &str,
        wanted: impl Fn(i32) -> bool,
        within: Duration,
    ) -> KafkaResult<Option<Self>> {
        let metadata = client.fetch_metadata(Some(topic), within)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.map(|found| found.partitions()).unwrap_or_default();
        if partitions.is_empty() {
            return Ok(None);
        }
        let mut ends = Self::default();
        let mut silent = BTreeSet::from([NO_LEADER]);
        for partition in partitions.iter().filter(|partition| wanted(partition.id())) {
            let (id, leader) = (partition.id(), partition.leader());
            if leader != NO_LEADER {
                ends.insync.insert(id, partition.isr().len());
            }
            // A broker that did not answer for one partition would cost each other one the wait.
            let answer = if silent.contains(&leader) {
                None
            } else {
                client.fetch_watermarks(topic, id, within).ok()
            };
            if let Some((low, high)) = answer {
                ends.known.insert(id, Watermarks { low, high });
            } else {
                silent.insert(leader);
                ends.unanswered.insert(id);
            }
        }
        Ok(Some(ends))
    }

    /// Adds `base` to every offset.
    pub fn counted_from(mut self, base: i64) -> Self {
        for ends in self.known.values_mut() {
            ends.low += base;
            ends.high += base;
        }
        self
    }
}
