//! Keeps the position of a replay. Kafka holds it under a name that belongs to one selection of
//! records, so a filtered replay never moves the position past the records of other replays.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use ljwx_service::kafka::REQUEST_TIMEOUT;
use ljwx_service::kafka::topic_reader::OffsetRanges;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use sha2::{Digest, Sha256};

use super::args::{DlqArgs, KeptTopic};
use super::topic::open;

/// Interval of the commits. What was sent since the last commit is sent again after a kill.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes of the filter's hash in a position's name.
const HASH_BYTES: usize = 6;

/// The records that a replay selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection<'a> {
    pub topic: KeptTopic,
    pub class: Option<&'a str>,
    pub device: Option<&'a str>,
    pub from_ms: Option<i64>,
    pub to_ms: Option<i64>,
}

impl<'a> Selection<'a> {
    /// Returns the selection of these settings.
    pub fn of(config: &'a DlqArgs) -> Self {
        let (zone, filter) = (&config.zone.zone, &config.filter);
        Self {
            topic: config.topic,
            class: filter.class.as_deref(),
            device: filter.device.as_deref(),
            from_ms: filter.from.map(|from| from.at_ms(zone)),
            to_ms: filter.to.map(|to| to.at_ms(zone)),
        }
    }

    /// Returns the name of the position: `<group>.<name>`, and with a filter also a hash of the
    /// selection. The hash must stay the same in every version, or a replay would begin anew.
    pub fn position_name(&self, group: &str, name: &str) -> String {
        let topic = match self.topic {
            KeptTopic::DeadLetters => "dead-letters",
            KeptTopic::Rejects => "rejects",
        };
        let times = [self.from_ms, self.to_ms].map(|time| time.map(|ms| ms.to_string()));
        let filter = [self.class, self.device, times[0].as_deref(), times[1].as_deref()];
        if filter.iter().all(Option::is_none) {
            return format!("{group}.{name}");
        }
        let mut digest = Sha256::new();
        for part in [Some(topic)].into_iter().chain(filter) {
            let Some(part) = part else {
                digest.update([0_u8]);
                continue;
            };
            // The length keeps two filters apart whose parts give the same text.
            digest.update([1_u8]);
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part.as_bytes());
        }
        let digest: [u8; 32] = digest.finalize().into();
        let hash: String = digest[..HASH_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{group}.{name}.{hash}")
    }
}

/// The position of a replay.
pub struct ReplayPosition {
    /// The name under which Kafka keeps the position.
    pub name: String,
    consumer: BaseConsumer,
    topic: String,
    /// Offsets after the last passed records that are not committed yet, by partition.
    passed: BTreeMap<i32, i64>,
    committed_at: Instant,
}

impl ReplayPosition {
    /// Returns the position, and the records between it and the topic's present ends. A record that
    /// comes back during the replay lies behind these ends. Blocks.
    pub fn open(config: &DlqArgs, name: &str) -> anyhow::Result<(Self, OffsetRanges)> {
        let name = Selection::of(config).position_name(&config.group, name);
        let consumer: BaseConsumer = config
            .kafka
            .client_config("worker-dlq")
            .set("group.id", &name)
            .set("enable.auto.commit", "false")
            .create()?;
        let (_, topic, ends) = open(config)?;
        let mut asked = TopicPartitionList::new();
        for partition in ends.keys() {
            asked.add_partition(&topic, *partition);
        }
        let committed = consumer.committed_offsets(asked, REQUEST_TIMEOUT)?;
        let starts: BTreeMap<i32, i64> = committed
            .elements()
            .iter()
            .filter_map(|element| match element.offset() {
                Offset::Offset(offset) => Some((element.partition(), offset)),
                _ => None,
            })
            .collect();
        let ranges = ends.iter().map(|(partition, ends)| {
            let start = starts.get(partition).copied().unwrap_or(ends.low).max(ends.low);
            (*partition, start..ends.high)
        });
        let (passed, committed_at) = (BTreeMap::new(), Instant::now());
        Ok((Self { name, consumer, topic, passed, committed_at }, ranges.collect()))
    }

    /// Moves past a record whose readings Kafka has confirmed. Commits once per interval.
    pub fn pass(&mut self, partition: i32, offset: i64) -> anyhow::Result<()> {
        self.passed.insert(partition, offset + 1);
        if self.committed_at.elapsed() >= COMMIT_INTERVAL { self.commit() } else { Ok(()) }
    }

    /// Commits what was passed since the last commit.
    pub fn commit(&mut self) -> anyhow::Result<()> {
        if self.passed.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        for (partition, next) in &self.passed {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*next))?;
        }
        self.consumer.commit(&list, CommitMode::Sync).context("cannot commit the position")?;
        self.passed.clear();
        self.committed_at = Instant::now();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: Selection<'static> = Selection {
        topic: KeptTopic::DeadLetters,
        class: None,
        device: None,
        from_ms: None,
        to_ms: None,
    };

    #[test]
    fn a_replay_without_a_filter_keeps_the_plain_name() {
        assert_eq!(ALL.position_name("worker", "replay"), "worker.replay");
        let rejects = Selection { topic: KeptTopic::Rejects, ..ALL };
        assert_eq!(rejects.position_name("worker", "second"), "worker.second");
    }

    #[test]
    fn each_filter_has_a_name_of_its_own_that_never_changes() {
        let of_device = Selection { device: Some("A"), ..ALL };
        assert_eq!(of_device.position_name("worker", "replay"), "worker.replay.810d78dec4cb");
        let filters = [
            ALL,
            of_device,
            Selection { device: Some(""), ..ALL },
            Selection { class: Some("A"), ..ALL },
            Selection { class: Some("A"), device: Some("B"), ..ALL },
            Selection { class: Some("AB"), device: Some(""), ..ALL },
            Selection { from_ms: Some(0), ..ALL },
            Selection { to_ms: Some(0), ..ALL },
            Selection { topic: KeptTopic::Rejects, ..of_device },
        ];
        let names: BTreeSet<String> =
            filters.iter().map(|filter| filter.position_name("worker", "replay")).collect();
        assert_eq!(names.len(), filters.len(), "{names:?}");
    }
}
