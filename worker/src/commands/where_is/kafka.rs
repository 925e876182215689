//! Searches the topics for a reading: the readings, the rejects, the dead letters of the group.
//!
//! Leaves the decision which record is the reading's to `matching`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

use anyhow::{Context, ensure};
use jiff::tz::TimeZone;
use ljwx_ledger::ledger::AcceptedTopic;
use ljwx_reading::TIMESTAMP_AHEAD_MS_MAX;
use ljwx_service::kafka::REQUEST_TIMEOUT;
use ljwx_service::kafka::topic_reader::{TopicReader, TopicWatermarks, Watermarks};
use rdkafka::message::{BorrowedMessage, Message};

use super::answers::{
    FoundRecord, KeptSearch, Part, Position, RecordSearch, SearchedRange, SoughtReading,
};
use super::args::WhereArgs;
use super::matching;
use crate::commands::dlq::record::KeptRecord;

/// The reason why a search ended before its end.
const LATE: &str = "not read within --timeout";

/// Most rejects, and most dead letters, that are listed.
const MATCHES_MAX: usize = 100;

/// Most records of one identity that are listed. A search that finds more ends.
const RECORDS_MAX: usize = 1000;

/// The name of this command in the logs of the brokers.
const CLIENT_ID: &str = "worker-where";

/// What to search for, and how long.
#[derive(Debug, Clone)]
pub struct TopicSearch {
    pub config: WhereArgs,
    pub sought: SoughtReading,
    /// The topic that the ledger counts in.
    pub accepted: Part<AcceptedTopic>,
    /// Positions of deliveries that are in the row.
    pub stored: Vec<Position>,
    pub deadline: Instant,
}

/// What the topics know.
#[derive(Debug, Clone)]
pub struct TopicAnswers {
    pub readings: Part<RecordSearch>,
    pub rejects: Part<KeptSearch>,
    pub dead_letters: Part<KeptSearch>,
}

impl TopicAnswers {
    /// Returns the answers of topics that could not be searched.
    pub fn unknown(reason: &str) -> Self {
        Self {
            readings: Part::Unknown(reason.to_owned()),
            rejects: Part::Unknown(reason.to_owned()),
            dead_letters: Part::Unknown(reason.to_owned()),
        }
    }
}

impl TopicSearch {
    /// Searches the topics. Blocks.
    pub fn run(&self) -> TopicAnswers {
        let kafka = &self.config.kafka;
        let reader = match TopicReader::new(kafka, CLIENT_ID) {
            Ok(reader) => reader,
            Err(error) => return TopicAnswers::unknown(&format!("{error:#}")),
        };
        let readings = part(self.readings(&reader));
        let mut positions = self.stored.clone();
        let found = readings.known().into_iter().flat_map(|search| &search.records);
        positions.extend(found.map(|record| record.position));
        let (sought, zone) = (&self.sought, self.zone());
        let rejects = self
            .kept(&reader, &kafka.rejects_topic, |record| matching::reject(record, sought, zone));
        let letters_topic = kafka.dead_letter_topic(&self.config.group);
        let dead_letters = self.kept(&reader, &letters_topic, |record| {
            matching::dead_letter(record, &positions, sought)
        });
        TopicAnswers { readings, rejects: part(rejects), dead_letters: part(dead_letters) }
    }

    fn zone(&self) -> &TimeZone {
        &self.config.zone.zone
    }

    /// Searches the readings topic.
    fn readings(&self, reader: &TopicReader) -> anyhow::Result<RecordSearch> {
        let topic = &self.config.kafka.readings_topic;
        match &self.accepted {
            Part::Known(accepted) => accepted.count_in(reader, topic, REQUEST_TIMEOUT)?,
            // Offsets without their base may name other records than the row does.
            Part::Unknown(reason) => anyhow::bail!("the base of the offsets is unknown: {reason}"),
        }
        let ends = reader.ends(topic)?.with_context(|| format!("there is no topic {topic}"))?;
        let ranges = self.ranges(reader, &ends)?;
        let low = |partition: i32| ends.get(&partition).map_or(0, |ends| ends.low);
        let range = |(partition, range): (&i32, &Range<i64>)| SearchedRange {
            partition: *partition,
            from: range.start,
            to: range.end,
            low: low(*partition),
        };
        let mut search = RecordSearch {
            searched: ranges.iter().map(range).collect(),
            ..RecordSearch::default()
        };
        let steps = self.single_records(&ends, &ranges).into_iter().chain([ranges.clone()]);
        let records = &mut search.records;
        for step in steps {
            let read = reader.read(topic, &step, |message| {
                self.check_time()?;
                if let Some(record) = self.record(message, reader.offset(message)) {
                    ensure!(records.len() < RECORDS_MAX, "over {RECORDS_MAX} records");
                    records.push(record);
                }
                Ok(())
            });
            if let Err(error) = read {
                search.stopped = Some(format!("{error:#}"));
                break;
            }
        }
        search.records.sort_by_key(|record| (record.position.partition, record.position.offset));
        Ok(search)
    }

    /// Returns the ranges to search: the receipts from a day before the reading's time on, because
    /// a device's clock may be that much ahead.
    fn ranges(
        &self,
        reader: &TopicReader,
        ends: &TopicWatermarks,
    ) -> anyhow::Result<BTreeMap<i32, Range<i64>>> {
        let topic = &self.config.kafka.readings_topic;
        let within = i64::try_from(self.config.within.as_millis()).unwrap_or(i64::MAX);
        let at_ms = self.sought.at_ms;
        let from = reader.at_time(topic, ends, at_ms - TIMESTAMP_AHEAD_MS_MAX)?;
        let to = reader.at_time(topic, ends, at_ms.saturating_add(within))?;
        let own = matching::partition_of_key(self.sought.device.as_bytes(), ends.len());
        let wanted = |partition: i32| self.config.all_partitions || Some(partition) == own;
        let range = |(partition, ends): (&i32, &Watermarks)| range_of(*partition, ends, &from, &to);
        Ok(ends.iter().filter(|(partition, _)| wanted(**partition)).map(range).collect())
    }

    /// Returns a range for each stored position that the topic still has outside `ranges`: of a
    /// late receipt, or of a partition from before the topic grew.
    fn single_records(
        &self,
        ends: &TopicWatermarks,
        ranges: &BTreeMap<i32, Range<i64>>,
    ) -> Vec<BTreeMap<i32, Range<i64>>> {
        let is_left = |position: &&Position| {
            let covered = ranges.get(&position.partition);
            ends.get(&position.partition)
                .is_some_and(|ends| (ends.low..ends.high).contains(&position.offset))
                && !covered.is_some_and(|range| range.contains(&position.offset))
        };
        let single = |position: &Position| {
            BTreeMap::from([(position.partition, position.offset..position.offset + 1)])
        };
        self.stored.iter().filter(is_left).map(single).collect()
    }

    fn record(&self, message: &BorrowedMessage<'_>, offset: i64) -> Option<FoundRecord> {
        // Decoding costs more than everything else, so other devices' records are left out first.
        if !matching::may_be_of(message.key(), &self.sought) {
            return None;
        }
        matching::record(&KeptRecord::of(message), offset, &self.sought, self.zone())
    }

    /// Reads a whole topic of kept records. Their times do not rise along a partition, so every
    /// record has to be checked.
    fn kept(
        &self,
        reader: &TopicReader,
        topic: &str,
        matches: impl Fn(&KeptRecord) -> Option<bool>,
    ) -> anyhow::Result<KeptSearch> {
        let ends = reader.ends(topic)?.with_context(|| format!("there is no topic {topic}"))?;
        let ranges = ends.iter().map(|(partition, ends)| (*partition, ends.low..ends.high));
        let mut search =
            KeptSearch { expired: ends.values().any(|ends| ends.low > 0), ..KeptSearch::default() };
        let read = reader.read(topic, &ranges.collect(), |message| {
            self.check_time()?;
            search.records += 1;
            let record = KeptRecord::of(message);
            if let Some(certain) = matches(&record) {
                if search.matches.len() < MATCHES_MAX {
                    search.matches.push(matching::kept(&record, certain, self.zone()));
                } else {
                    search.omitted += 1;
                }
            }
            Ok(())
        });
        search.stopped = read.err().map(|error| format!("{error:#}"));
        search.matches.sort_by_key(|found| (found.position.partition, found.position.offset));
        Ok(search)
    }

    fn check_time(&self) -> anyhow::Result<()> {
        ensure!(Instant::now() < self.deadline, LATE);
        Ok(())
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

fn part<T>(answer: anyhow::Result<T>) -> Part<T> {
    match answer {
        Ok(answer) => Part::Known(answer),
        Err(error) => Part::Unknown(format!("{error:#}")),
    }
}
