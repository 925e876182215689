//! Finds the records of devices at the ends of the readings topic. A record of the canary is none.
//!
//! The canary's records are all in the partition of its key. Only there do records have to be read:
//! elsewhere an end that grows is a device's record.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use anyhow::ensure;
use ljwx_ledger::group::lag::GroupState;
use ljwx_ledger::group::monitor::ANSWER_TIMEOUT;
use ljwx_reading::CANARY_SN;
use ljwx_service::kafka::partitioner::partition_of;
use ljwx_service::kafka::topic_ends::{TopicWatermarks, Watermarks};
use ljwx_service::kafka::topic_reader::TopicReader;
use rdkafka::message::Message;

/// Records of the canary's partition among which a start looks for the last one of a device: of a day
/// with one every 30 s.
const LOOK_BACK_MAX: i64 = 4_096;

/// Factor by which the search widens while it finds none.
const LOOK_BACK_FACTOR: i64 = 16;

/// Follows the records of devices in one topic.
pub struct DeviceRecords {
    reader: Arc<TopicReader>,
    topic: String,
    canary: Option<CanaryPartition>,
}

/// What is known about the partition of the canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CanaryPartition {
    partition: i32,
    /// The offset up to which the records are known.
    known: i64,
    /// The end at which the last record of a device was found.
    of_devices: i64,
}

/// What a search in the range of new records found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// A record of a device, or a gap that may hide one.
    Device,
    /// Only records of the canary, up to this offset.
    Canary(i64),
}

impl CanaryPartition {
    /// Takes the partition as it is found: what it had before may be a device's.
    const fn found(partition: i32, end: i64) -> Self {
        Self { partition, known: end, of_devices: end }
    }

    /// Takes what was found in the records up to `end`.
    const fn after(self, end: i64, found: Found) -> Self {
        match found {
            Found::Device => Self::found(self.partition, end),
            Found::Canary(known) => Self { known, ..self },
        }
    }
}

impl DeviceRecords {
    /// Follows a topic, whose records `reader` reads.
    pub fn new((reader, topic): (Arc<TopicReader>, &str)) -> Self {
        Self { reader, topic: topic.to_owned(), canary: None }
    }

    /// Looks at the records that have come since the last call. Those that cannot be read are left
    /// for the next one.
    pub async fn update(&mut self, seen: &GroupState) {
        let partition = canary_partition(seen);
        let Some(end) = seen.ends.get(&partition).map(|ends| ends.high) else { return };
        let known = self.canary.filter(|known| known.partition == partition && known.known <= end);
        let known = known.unwrap_or(CanaryPartition::found(partition, end));
        let found = if known.known == end { None } else { self.find(known, end).await };
        self.canary = Some(found.map_or(known, |found| known.after(end, found)));
    }

    async fn find(&self, known: CanaryPartition, end: i64) -> Option<Found> {
        let (reader, topic) = (Arc::clone(&self.reader), self.topic.clone());
        let range = known.known..end;
        let asked =
            tokio::task::spawn_blocking(move || find_in(&reader, &topic, known.partition, range));
        asked.await.ok()?.ok()
    }

    /// Returns the ends as the records of devices alone would have moved them.
    pub fn ends(&self, ends: &TopicWatermarks) -> TopicWatermarks {
        let mut ends = ends.clone();
        if let Some(canary) = self.canary
            && let Some(own) = ends.get_mut(&canary.partition)
        {
            own.high = canary.of_devices;
        }
        ends
    }

    /// Returns the Kafka record time of the newest record of a device that ends a partition, in
    /// milliseconds since 1970. A partition without an answer may have a newer one. The inner `None`:
    /// there is no such record. The outer one: no answer.
    pub async fn last_ms(&self, seen: &GroupState) -> Option<Option<i64>> {
        let answering = seen.ends.iter().filter(|(number, _)| !seen.unanswered.contains(*number));
        let full = answering.filter(|(_, ends)| ends.low < ends.high);
        let mut ends: TopicWatermarks = full.map(|(number, ends)| (*number, *ends)).collect();
        let canary = ends.remove_entry(&canary_partition(seen));
        let (reader, topic) = (Arc::clone(&self.reader), self.topic.clone());
        let asked = tokio::task::spawn_blocking(move || {
            let lasts = ends.iter().map(|(number, ends)| (*number, ends.high - 1)).collect();
            let times = reader.times(&topic, &lasts, ANSWER_TIMEOUT)?;
            let is_whole = times.len() == lasts.len();
            let mut newest = times.into_values().flatten().max();
            if let Some((partition, ends)) = canary {
                newest = newest.max(last_in(&reader, &topic, partition, ends)?);
            }
            ensure!(newest.is_some() || is_whole, "a partition does not answer");
            anyhow::Ok(newest)
        });
        asked.await.ok()?.ok()
    }
}

/// Returns the partition of the canary's records. Gateways that do not know added partitions yet use
/// the former one for some minutes, in which the canary counts as a device.
fn canary_partition(seen: &GroupState) -> i32 {
    partition_of(CANARY_SN.as_bytes(), i32::try_from(seen.partitions).unwrap_or(i32::MAX))
}

fn is_of_canary(record: &impl Message) -> bool {
    record.key() == Some(CANARY_SN.as_bytes())
}

/// Looks for a record of a device in a range. Blocks.
fn find_in(
    reader: &TopicReader,
    topic: &str,
    partition: i32,
    range: Range<i64>,
) -> anyhow::Result<Found> {
    let (end, mut passed, mut has_device) = (range.end, range.start, false);
    let next = reader.scan(topic, partition, range, ANSWER_TIMEOUT, |record| {
        has_device = !is_of_canary(record) || reader.offset(record) > passed;
        passed = reader.offset(record) + 1;
        if has_device { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    // Offsets without a record may hide one whose transaction is still open.
    let hides = next == end && passed < end;
    Ok(if has_device || hides { Found::Device } else { Found::Canary(next) })
}

/// Returns the Kafka record time of a partition's last record of a device, in milliseconds since
/// 1970. `None`: there is none among the last [`LOOK_BACK_MAX`]. Blocks.
fn last_in(
    reader: &TopicReader,
    topic: &str,
    partition: i32,
    ends: Watermarks,
) -> anyhow::Result<Option<i64>> {
    let mut back = 1;
    while back <= LOOK_BACK_MAX {
        let (mut last, from) = (None, (ends.high - back).max(ends.low));
        let range = from..ends.high;
        let next = reader.scan(topic, partition, range, ANSWER_TIMEOUT, |record| {
            if !is_of_canary(record) {
                last = record.timestamp().to_millis();
            }
            ControlFlow::Continue(())
        })?;
        ensure!(next > from, "partition {partition} does not answer");
        if last.is_some() || from == ends.low {
            return Ok(last);
        }
        back *= LOOK_BACK_FACTOR;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_record_of_a_device_moves_the_end_of_devices() {
        let mut known = CanaryPartition::found(3, 10);
        for (end, found, expected) in [
            (11, Found::Canary(11), (11, 10)),
            (15, Found::Canary(12), (12, 10)),
            (15, Found::Canary(15), (15, 10)),
            (17, Found::Device, (17, 17)),
            (18, Found::Canary(18), (18, 17)),
        ] {
            known = known.after(end, found);
            assert_eq!((known.known, known.of_devices), expected, "{found:?} up to {end}");
        }
    }
}
