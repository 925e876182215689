//! Reads the dead letters of a group: the delivery of each, and whether its reading was stored
//! after all.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;

use anyhow::ensure;
use ljwx_reading::wall_text;
use ljwx_reading::wire;
use ljwx_service::kafka::topic_reader::{TopicReader, TopicWatermarks, whole};
use rdkafka::message::{BorrowedMessage, Message};

use super::snapshot::StoredIdentity;
use crate::dead_letter::source::{SourceOffset, source};

/// Most dead letters that an audit keeps in memory.
const DEAD_LETTERS_MAX: usize = 1_000_000;

/// The content of the dead-letter topic, and the dead letters that were purged from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterIndex {
    /// Records, including dead letters that were written twice.
    pub records: i64,
    /// Partitions whose oldest dead letters retention or a purge has deleted.
    pub expired: BTreeSet<i32>,
    /// Every dead-lettered delivery, and its reading's identity if it can be decoded.
    pub found: BTreeMap<SourceOffset, Option<StoredIdentity>>,
    /// Dead-lettered deliveries whose identity has a row.
    pub stored: BTreeSet<SourceOffset>,
    /// Dead-lettered deliveries whose dead letter was purged.
    pub purged: BTreeSet<SourceOffset>,
}

/// The dead letters of one partition, compared with its ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionDeadLetters {
    /// Deliveries before the ledger's position with a dead letter in the topic.
    pub counted: i64,
    /// Counted deliveries with a row.
    pub stored: i64,
    /// Dead-lettered deliveries at or after the ledger's position.
    pub in_flight: i64,
    /// Dead-lettered deliveries before the ledger's position whose only dead letters were purged.
    pub purged: i64,
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
        reader.read(topic, &whole(ends), |message| {
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

    /// Returns whether a delivery has a dead letter, in the topic or purged from it.
    pub fn has(&self, source: &SourceOffset) -> bool {
        self.found.contains_key(source) || self.purged.contains(source)
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
        let purged = self.purged.range((partition, i64::MIN)..=(partition, i64::MAX));
        let gone =
            purged.filter(|source| passed.contains(&source.1) && !self.found.contains_key(*source));
        count.purged = gone.map(|_| 1).sum();
        count
    }
}

/// Returns the identity of a record's reading, if it can be decoded.
pub fn identity(message: &BorrowedMessage<'_>) -> Option<StoredIdentity> {
    let reading = wire::decode(message.payload()).ok()?;
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
        letters.purged.extend([(0, 4), (1, 4), (1, 9), (1, 11)]);
        assert_eq!(
            letters.count(1, &(3..10)),
            PartitionDeadLetters { counted: 2, stored: 1, in_flight: 2, purged: 1 },
            "written twice is one, and what lies behind the position is in flight"
        );
        assert_eq!(letters.count(3, &(0..10)), PartitionDeadLetters::default());
        assert!(letters.has(&(1, 3)) && letters.has(&(1, 4)) && !letters.has(&(1, 5)));
    }
}
