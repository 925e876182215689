//! Reads the dead letters of a group: the delivery of each, and whether its reading was stored
//! after all.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;

use anyhow::ensure;
use ljwx_reading::wall_text;
use ljwx_reading::wire;
use ljwx_service::kafka::topic_reader::{TopicReader, TopicWatermarks};
use rdkafka::message::{BorrowedMessage, Headers, Message};

use super::snapshot::StoredIdentity;

/// Most dead letters that an audit keeps in memory.
const DEAD_LETTERS_MAX: usize = 1_000_000;

/// Partition and offset in the readings topic.
pub type SourceOffset = (i32, i64);

/// The content of the dead-letter topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterIndex {
    /// Records, including dead letters that were written twice.
    pub records: i64,
    /// Partitions whose oldest dead letters retention has deleted.
    pub expired: BTreeSet<i32>,
    /// Every dead-lettered delivery, and its reading's identity if it can be decoded.
    pub found: BTreeMap<SourceOffset, Option<StoredIdentity>>,
    /// Dead-lettered deliveries whose identity has a row.
    pub stored: BTreeSet<SourceOffset>,
}

/// The dead letters of one partition, compared with its ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionDeadLetters {
    /// Dead-lettered deliveries before the ledger's position.
    pub counted: i64,
    /// Counted deliveries with a row.
    pub stored: i64,
    /// Dead-lettered deliveries at or after the ledger's position.
    pub in_flight: i64,
}

impl DeadLetterIndex {
    /// Reads the whole topic.
    pub fn read(
        reader: &TopicReader,
        topic: &str,
        ends: Option<&TopicWatermarks>,
        source_topic: &str,
    ) -> anyhow::Result<Self> {
        let Some(ends) = ends else { return Ok(Self::default()) };
        let mut letters = Self {
            expired: ends.iter().filter(|(_, ends)| ends.low > 0).map(|(p, _)| *p).collect(),
            ..Self::default()
        };
        let stretches = ends.iter().map(|(partition, ends)| (*partition, ends.low..ends.high));
        reader.read(topic, &stretches.collect(), |message| {
            letters.records += 1;
            if let Some(source) = source(message, source_topic) {
                ensure!(
                    letters.found.len() < DEAD_LETTERS_MAX,
                    "over {DEAD_LETTERS_MAX} dead letters"
                );
                letters.found.insert(source, identity(message));
            }
            Ok(())
        })?;
        Ok(letters)
    }

    /// Marks the dead letters whose identity is in `rows`.
    pub fn keep_stored(&mut self, rows: &HashSet<StoredIdentity>) {
        let stored = self.found.iter().filter(|(_, identity)| {
            identity.as_ref().is_some_and(|identity| rows.contains(identity))
        });
        self.stored = stored.map(|(source, _)| *source).collect();
    }

    /// Counts the dead letters of a partition. `passed` is the range that the ledger has passed.
    pub fn count(&self, partition: i32, passed: &Range<i64>) -> PartitionDeadLetters {
        let all = self.found.range((partition, i64::MIN)..=(partition, i64::MAX));
        let mut count = PartitionDeadLetters::default();
        for (source, _) in all {
            if passed.contains(&source.1) {
                count.counted += 1;
                count.stored += i64::from(self.stored.contains(source));
            } else if source.1 >= passed.end {
                count.in_flight += 1;
            }
        }
        count
    }
}

/// Returns the delivery of a dead letter; `None` if it is of another topic, or if headers are
/// missing.
fn source(message: &BorrowedMessage<'_>, source_topic: &str) -> Option<SourceOffset> {
    let header = |name: &str| {
        // The last header counts: a replayed dead letter that failed again has older headers too.
        let headers = message.headers()?;
        let last = headers.iter().filter(|header| header.key == name).last()?;
        std::str::from_utf8(last.value?).ok()
    };
    if header("dlq.source.topic")? != source_topic {
        return None;
    }
    Some((
        header("dlq.source.partition")?.parse().ok()?,
        header("dlq.source.offset")?.parse().ok()?,
    ))
}

/// Returns the identity of a record's reading, if it can be decoded.
pub fn identity(message: &BorrowedMessage<'_>) -> Option<StoredIdentity> {
    let reading = wire::decode(message.payload().unwrap_or_default()).ok()?;
    Some((reading.device_sn().as_str().to_owned(), wall_text(reading.timestamp())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_counted_by_what_the_ledger_has_passed() {
        let mut letters = DeadLetterIndex::default();
        for source in [(0, 5), (1, 3), (1, 9), (1, 10), (1, 12), (2, 4)] {
            letters.found.insert(source, None);
        }
        letters.stored.insert((1, 9));
        assert_eq!(
            letters.count(1, &(3..10)),
            PartitionDeadLetters { counted: 2, stored: 1, in_flight: 2 },
            "written twice is one, and what lies behind the position is in flight"
        );
        assert_eq!(letters.count(3, &(0..10)), PartitionDeadLetters::default());
    }
}
