//! Looks up single readings, of a device or a time. Each reading that the topic still has must have
//! a row or a dead letter.

use std::collections::BTreeMap;

use ljwx_ledger::mysql::MySqlPool;
use ljwx_service::config::TimeArg;
use ljwx_service::kafka::topic_reader::{OffsetRanges, TopicReader};
use rdkafka::message::Message;
use serde::Serialize;
use tokio::runtime::Handle;

use super::args::AuditArgs;
use super::dead_letters;
use super::evidence::Evidence;
use super::finding::{Finding, FindingLevel};
use super::snapshot::{self, StoredIdentity};
use crate::dead_letter::source::SourceOffset;

/// Most missing readings that are listed.
const NAMED_MAX: usize = 100;

/// Readings of one lookup.
const LOOKED_UP_MAX: usize = 2_000;

/// The outcome of the readings that were looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReadingSearch {
    /// Records that were looked up.
    pub records: i64,
    /// Readings with a row.
    pub stored: i64,
    /// Readings without a row, but with a dead letter, purged ones included.
    pub dead_lettered: i64,
    /// Undecodable records of partitions whose oldest dead letters are gone.
    pub unknown: i64,
    /// Readings with neither.
    pub missing: i64,
    /// The first missing readings.
    pub named: Vec<MissingReading>,
    /// Deliveries whose rows `worker erase` has erased, of all devices.
    #[serde(skip)]
    pub erased: i64,
}

/// A reading with neither a row nor a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingReading {
    pub partition: i32,
    pub offset: i64,
    /// Serial number; `None`: the record is undecodable.
    pub device_sn: Option<String>,
    /// Event time.
    pub timestamp: Option<String>,
}

impl ReadingSearch {
    /// Looks up the readings that the settings name. Blocks.
    pub fn run(
        config: &AuditArgs,
        evidence: &Evidence,
        reader: &TopicReader,
        pool: &MySqlPool,
        runtime: &Handle,
    ) -> anyhow::Result<Self> {
        let ranges = ranges(config, evidence, reader)?;
        let mut search = Self { erased: evidence.mysql.erased.deliveries, ..Self::default() };
        let mut waiting: Vec<(SourceOffset, Option<StoredIdentity>)> = Vec::new();
        reader.read(&config.kafka.readings_topic, &ranges, |message| {
            let identity = dead_letters::identity(message);
            if let Some(device) = &config.device {
                let own = identity.as_ref().map_or_else(
                    || message.key() == Some(device.as_bytes()),
                    |(device_sn, _)| device_sn == device,
                );
                if !own {
                    return Ok(());
                }
            }
            waiting.push(((message.partition(), reader.offset(message)), identity));
            if waiting.len() >= LOOKED_UP_MAX {
                search.look_up(std::mem::take(&mut waiting), evidence, pool, runtime)?;
            }
            Ok(())
        })?;
        search.look_up(waiting, evidence, pool, runtime)?;
        Ok(search)
    }

    fn look_up(
        &mut self,
        readings: Vec<(SourceOffset, Option<StoredIdentity>)>,
        evidence: &Evidence,
        pool: &MySqlPool,
        runtime: &Handle,
    ) -> anyhow::Result<()> {
        let identities = readings.iter().filter_map(|(_, identity)| identity.as_ref());
        let found = runtime.block_on(snapshot::stored(pool, identities))?;
        for (source, identity) in readings {
            self.records += 1;
            if identity.as_ref().is_some_and(|identity| found.contains(identity)) {
                self.stored += 1;
            } else if evidence.dead_letters.has(&source) {
                self.dead_lettered += 1;
            } else if identity.is_none() && evidence.dead_letters.expired.contains(&source.0) {
                self.unknown += 1;
            } else {
                self.miss(source, identity);
            }
        }
        Ok(())
    }

    fn miss(&mut self, (partition, offset): SourceOffset, identity: Option<StoredIdentity>) {
        self.missing += 1;
        if self.named.len() < NAMED_MAX {
            let (device_sn, timestamp) = identity.unzip();
            self.named.push(MissingReading { partition, offset, device_sn, timestamp });
        }
    }

    /// Returns the finding, if readings are missing. Nobody knows any more whose rows were erased, so
    /// the number of their deliveries explains as many readings.
    pub fn finding(&self) -> Option<Finding> {
        if (1..=self.erased).contains(&self.missing) {
            return Some(Finding {
                code: "erased_readings",
                level: FindingLevel::Note,
                partition: None,
                message: format!(
                    "{} of {} readings have neither a row nor a dead letter, and {} deliveries were \
                     erased",
                    self.missing, self.records, self.erased
                ),
                remedy: "nothing, if these readings are of erased devices: the topic keeps them until \
                         its retention",
            });
        }
        (self.missing > 0).then(|| Finding {
            code: "missing_readings",
            level: FindingLevel::Failure,
            partition: None,
            message: format!(
                "{} of {} readings have neither a row nor a dead letter",
                self.missing, self.records
            ),
            remedy: "passed over by `worker offsets`, deleted by another program, or of a dropped \
                     month: a rewind by `worker offsets` stores them again",
        })
    }
}

/// Returns the offsets that the ledger has passed, as far as the topic still has them and the
/// settings include them.
fn ranges(
    config: &AuditArgs,
    evidence: &Evidence,
    reader: &TopicReader,
) -> anyhow::Result<OffsetRanges> {
    let topic = &config.kafka.readings_topic;
    let zone = &config.zone.zone;
    let Some(ends) = &evidence.readings else { return Ok(OffsetRanges::new()) };
    let at = |when: Option<TimeArg>| {
        when.map(|when| reader.at_time(topic, ends, when.at_ms(zone))).transpose()
    };
    let (from, to) = (at(config.from)?, at(config.to)?);
    let bound = |times: &Option<BTreeMap<i32, i64>>, partition: i32| {
        times.as_ref().and_then(|times| times.get(&partition).copied())
    };
    let ranges = evidence.mysql.ledger.values().filter_map(|entry| {
        let partition = entry.partition;
        let low = ends.get(&partition)?.low.max(entry.first_offset);
        let start = bound(&from, partition).unwrap_or(low).max(low);
        let end = bound(&to, partition).unwrap_or(entry.next_offset).min(entry.next_offset);
        Some((partition, start..end))
    });
    Ok(ranges.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_readings_may_miss_their_rows_as_were_erased() {
        for (missing, erased, expected) in [
            (0, 0, None),
            (0, 5, None),
            (1, 0, Some(("missing_readings", FindingLevel::Failure))),
            (5, 5, Some(("erased_readings", FindingLevel::Note))),
            (6, 5, Some(("missing_readings", FindingLevel::Failure))),
        ] {
            let search = ReadingSearch { missing, erased, ..ReadingSearch::default() };
            let found = search.finding().map(|finding| (finding.code, finding.level));
            assert_eq!(found, expected, "{missing} {erased}");
        }
    }
}
