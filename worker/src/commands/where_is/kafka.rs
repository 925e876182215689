//! Searches one topic for a reading: the readings, the rejects, or the dead letters of the group.
//!
//! Leaves the decision which record is the reading's to `matching`.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Context;
use jiff::tz::TimeZone;
use ljwx_ledger::ledger::AcceptedTopic;
use ljwx_reading::TIMESTAMP_AHEAD_MS_MAX;
use ljwx_service::kafka::REQUEST_TIMEOUT;
use ljwx_service::kafka::partitioner::partition_of;
use ljwx_service::kafka::topic_reader::{
    OffsetRanges, TopicReader, TopicWatermarks, Watermarks, whole,
};
use rdkafka::message::{BorrowedMessage, Message};

use super::answers::{FoundRecord, KeptMatch, Position, SearchedRange, SoughtReading};
use super::args::WhereArgs;
use super::matching;
use super::progress::Progress;
use crate::commands::dlq::args::KeptTopic;
use crate::commands::dlq::record::KeptRecord;

/// The name of this command in the logs of the brokers.
const CLIENT_ID: &str = "worker-where";

/// What to search for.
#[derive(Debug, Clone)]
pub struct TopicSearch {
    pub config: WhereArgs,
    pub sought: SoughtReading,
    /// The topic that the ledger counts in; `None`: count as Kafka does.
    pub accepted: Option<AcceptedTopic>,
    /// Positions of deliveries that are in the row.
    pub stored: Vec<Position>,
}

impl TopicSearch {
    /// Searches the readings topic. Blocks.
    pub fn readings(&self, progress: &Progress<FoundRecord>) -> anyhow::Result<()> {
        let topic = &self.config.kafka.readings_topic;
        let reader = TopicReader::new(&self.config.kafka, CLIENT_ID)?;
        if let Some(accepted) = &self.accepted {
            accepted.count_in(&reader, topic, REQUEST_TIMEOUT)?;
        }
        let ends = reader.ends(topic)?.with_context(|| format!("there is no topic {topic}"))?;
        let ranges = self.ranges(&reader, &ends)?;
        let base = reader.base(topic);
        progress.update(|search| search.searched = searched(&ranges, &ends, base))?;
        let mut steps = self.single_records(&ends, &ranges);
        steps.push(ranges);
        for step in steps {
            reader.read(topic, &step, |message| {
                let record = self.record(message, reader.offset(message));
                progress.update(|search| {
                    if let Some(record) = record {
                        search.add(record, |_| true);
                    }
                })
            })?;
        }
        Ok(())
    }

    /// Searches the rejects or the dead letters. Their times do not rise along a partition, so
    /// every record has to be checked. Blocks.
    pub fn kept(&self, kind: KeptTopic, progress: &Progress<KeptMatch>) -> anyhow::Result<()> {
        let kafka = &self.config.kafka;
        let topic = match kind {
            KeptTopic::Rejects => kafka.rejects_topic.clone(),
            KeptTopic::DeadLetters => kafka.dead_letter_topic(&self.config.group),
        };
        let reader = TopicReader::new(kafka, CLIENT_ID)?;
        let ends = reader.ends(&topic)?.with_context(|| format!("there is no topic {topic}"))?;
        let ranges = whole(&ends);
        progress.update(|search| search.searched = searched(&ranges, &ends, 0))?;
        reader.read(&topic, &ranges, |message| {
            let found = self.kept_match(kind, message);
            progress.update(|search| {
                if let Some(found) = found {
                    // Doubtful matches must not crowd out certain ones.
                    let certain = found.certain;
                    search.add(found, |other| other.certain == certain);
                }
            })
        })
    }

    fn zone(&self) -> &TimeZone {
        &self.config.zone.zone
    }

    /// Returns the ranges to search: the receipts from a day before the reading's time on, because
    /// a device's clock may be that much ahead.
    fn ranges(&self, reader: &TopicReader, ends: &TopicWatermarks) -> anyhow::Result<OffsetRanges> {
        let topic = &self.config.kafka.readings_topic;
        let within = i64::try_from(self.config.within.as_millis()).unwrap_or(i64::MAX);
        let at_ms = self.sought.at_ms;
        let from = reader.at_time(topic, ends, at_ms - TIMESTAMP_AHEAD_MS_MAX)?;
        let to = reader.at_time(topic, ends, at_ms.saturating_add(within))?;
        let count = i32::try_from(ends.len()).unwrap_or(i32::MAX);
        let own = partition_of(self.sought.device.as_bytes(), count);
        let wanted = |partition: i32| self.config.all_partitions || partition == own;
        let range = |(partition, ends): (&i32, &Watermarks)| range_of(*partition, ends, &from, &to);
        Ok(ends.iter().filter(|(partition, _)| wanted(**partition)).map(range).collect())
    }

    /// Returns a range for each stored position that the topic still has outside `ranges`: of a
    /// late receipt, or of a partition from before the topic grew.
    fn single_records(&self, ends: &TopicWatermarks, ranges: &OffsetRanges) -> Vec<OffsetRanges> {
        let is_left = |position: &&Position| {
            let covered = ranges.get(&position.partition);
            ends.get(&position.partition)
                .is_some_and(|ends| (ends.low..ends.high).contains(&position.offset))
                && !covered.is_some_and(|range| range.contains(&position.offset))
        };
        let single = |position: &Position| {
            OffsetRanges::from([(position.partition, position.offset..position.offset + 1)])
        };
        self.stored.iter().filter(is_left).map(single).collect()
    }

    /// Returns the record, if it holds the reading. Decoding costs more than everything else, so
    /// other devices' records are left out first.
    fn record(&self, message: &BorrowedMessage<'_>, offset: i64) -> Option<FoundRecord> {
        if !matching::may_be_of(message.key(), &self.sought) {
            return None;
        }
        matching::record(&KeptRecord::of(message), offset, &self.sought, self.zone())
    }

    /// Returns the reject or dead letter, if it is or may be the reading's.
    fn kept_match(&self, kind: KeptTopic, message: &BorrowedMessage<'_>) -> Option<KeptMatch> {
        if !matching::may_be_of(message.key(), &self.sought) {
            return None;
        }
        let record = KeptRecord::of(message);
        let certain = match kind {
            KeptTopic::Rejects => matching::reject(&record, &self.sought, self.zone()),
            KeptTopic::DeadLetters => matching::dead_letter(&record, &self.sought),
        };
        Some(matching::kept(&record, certain?, self.zone()))
    }
}

/// Returns the range between two times that the partition still has.
fn range_of(
    partition: i32,
    ends: &Watermarks,
    from: &BTreeMap<i32, i64>,
    to: &BTreeMap<i32, i64>,
) -> (i32, Range<i64>) {
    let start = from.get(&partition).copied().unwrap_or(ends.low).max(ends.low);
    let end = to.get(&partition).copied().unwrap_or(ends.high).min(ends.high);
    (partition, start..end.max(start))
}

/// Describes the ranges. A range is cut if it begins where the partition begins and records before
/// it are deleted. The partition's first record had the offset `base`.
fn searched(ranges: &OffsetRanges, ends: &TopicWatermarks, base: i64) -> Vec<SearchedRange> {
    let describe = |(partition, range): (&i32, &Range<i64>)| SearchedRange {
        partition: *partition,
        from: range.start,
        to: range.end,
        cut: ends.get(partition).is_some_and(|ends| ends.low > base && range.start == ends.low),
    };
    ranges.iter().map(describe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_if_it_begins_with_the_first_record_that_is_left() {
        let is_cut = |low: i64, from: i64, base: i64| {
            let ends = TopicWatermarks::from([(1, Watermarks { low, high: 90 })]);
            searched(&OffsetRanges::from([(1, from..90)]), &ends, base)[0].cut
        };
        assert!(is_cut(5, 5, 0), "older records are deleted");
        assert!(is_cut(90, 90, 0), "all records are deleted");
        assert!(!is_cut(5, 6, 0), "an older record is left");
        assert!(!is_cut(0, 0, 0), "nothing is deleted");
        assert!(!is_cut(70, 70, 70), "nothing of the recreated topic is deleted");
    }
}
