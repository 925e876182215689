//! Reads the records of dead-lettered deliveries again: a delivery that could be decoded keeps no
//! copy of its record. Joins no group.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use ljwx_ledger::group::delivery::{
    Delivery, REPLAY_COUNT, REPLAY_OFFSET, REPLAY_PARTITION, RawRecord, Replay,
};
use ljwx_ledger::ledger::Ledger;
use ljwx_reading::{Reading, wire};
use ljwx_service::kafka::topic_reader::ReaderContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tracing::debug;

use super::source::SourceOffset;

/// Time limit of the reading. After it, dead letters whose records are missing wait.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait of one poll.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// Most memory of records that are fetched ahead, in KiB.
const FETCHED_KBYTES_MAX: &str = "2048";

/// Header of a dead letter that was encoded again, because Kafka had deleted the record.
pub const ENCODED_AGAIN: &str = "dlq.encoded_again";

/// Offsets of deliveries, by partition.
pub type WantedOffsets = BTreeMap<i32, BTreeSet<i64>>;

/// Reads records of the readings topic by their offsets.
pub struct RecordSource {
    client: ClientConfig,
    topic: String,
    ledger: Ledger,
}

impl RecordSource {
    /// Creates a reader with the id of `group`, because the brokers may let only this group read
    /// the topic.
    pub fn new(mut client: ClientConfig, topic: &str, group: &str, ledger: Ledger) -> Self {
        client
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            // Retention may have deleted a record. The next record that is left shows it.
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.queue.backoff.ms", "20")
            .set("queued.max.messages.kbytes", FETCHED_KBYTES_MAX);
        Self { client, topic: topic.to_owned(), ledger }
    }

    /// Reads the records at these offsets, which lie close together in each partition.
    pub async fn read(&self, wanted: WantedOffsets) -> FoundRecords {
        if wanted.is_empty() {
            return FoundRecords::default();
        }
        let unanswered = wanted.keys().copied().collect();
        self.try_read(wanted).await.unwrap_or_else(|error| {
            debug!(%error, "cannot read records of dead letters again");
            FoundRecords { records: HashMap::new(), unanswered }
        })
    }

    async fn try_read(&self, wanted: WantedOffsets) -> anyhow::Result<FoundRecords> {
        let (client, topic, base) = (self.client.clone(), self.topic.clone(), self.ledger.base());
        let reading = tokio::task::spawn_blocking(move || read(&client, &topic, wanted, base));
        Ok(reading.await??)
    }
}

/// The records that Kafka has brought again.
#[derive(Default)]
pub struct FoundRecords {
    records: HashMap<SourceOffset, RawRecord>,
    /// Partitions that were not read to the last wanted offset in time.
    unanswered: BTreeSet<i32>,
}

impl FoundRecords {
    /// Removes the record of a delivery. If the topic no longer has it, encodes the reading again.
    /// Returns `None` if Kafka has not answered.
    pub fn take(&mut self, delivery: &Delivery, reading: &Reading) -> Option<RawRecord> {
        let found = self.records.remove(&(delivery.partition, delivery.offset));
        // Brokers that lost records give their offsets to others.
        let is_own = |record: &RawRecord| {
            wire::decode(record.value.as_deref()).is_ok_and(|found| found == *reading)
        };
        match found.filter(is_own) {
            Some(record) => Some(record),
            None if self.unanswered.contains(&delivery.partition) => None,
            None => Some(encoded_again(reading, delivery.replay)),
        }
    }
}

/// Reads records whose offsets are Kafka's plus `base`. Blocks.
fn read(
    client: &ClientConfig,
    topic: &str,
    wanted: WantedOffsets,
    base: i64,
) -> KafkaResult<FoundRecords> {
    let consumer: BaseConsumer<ReaderContext> =
        client.create_with_context(ReaderContext::default())?;
    let starts: BTreeMap<i32, i64> = wanted
        .iter()
        .filter_map(|(partition, offsets)| Some((*partition, *offsets.first()?)))
        .collect();
    let mut list = TopicPartitionList::new();
    for (partition, start) in &starts {
        list.add_partition_offset(topic, *partition, Offset::Offset(start - base))?;
    }
    consumer.assign(&list)?;
    let (mut open, mut records) = (wanted, HashMap::new());
    let until = Instant::now() + READ_TIMEOUT;
    while !open.is_empty() && Instant::now() < until {
        match consumer.poll(POLL_WAIT) {
            None => {}
            Some(Ok(message)) => {
                let (partition, offset) = (message.partition(), message.offset() + base);
                let Some(left) = open.get_mut(&partition) else { continue };
                if left.contains(&offset) {
                    records.insert((partition, offset), RawRecord::of(&message));
                }
                // Offsets that were passed without a record have none any more.
                left.retain(|wanted| *wanted > offset);
                // A record before the start: brokers lost the end of the partition.
                let is_reset = starts.get(&partition).is_some_and(|start| offset < *start);
                if left.is_empty() || is_reset {
                    open.remove(&partition);
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(error)) => debug!(%error, "cannot read from Kafka, retrying"),
        }
    }
    Ok(FoundRecords { records, unanswered: open.into_keys().collect() })
}

/// Returns the record that the gateway would write of the reading, with a header that names it as
/// encoded again. The origin of a replayed reading stays, and the count of its replays begins
/// again.
fn encoded_again(reading: &Reading, replay: Option<Replay>) -> RawRecord {
    let add = |headers: OwnedHeaders, key: &str, value: &str| {
        headers.insert(Header { key, value: Some(value) })
    };
    let mut headers = add(OwnedHeaders::new(), "schema", wire::SCHEMA);
    headers = add(headers, ENCODED_AGAIN, "true");
    if let Some(Replay::DeadLetter(partition, offset)) = replay {
        headers = add(headers, REPLAY_PARTITION, &partition.to_string());
        headers = add(headers, REPLAY_OFFSET, &offset.to_string());
    }
    if replay.is_some() {
        headers = add(headers, REPLAY_COUNT, "1");
    }
    RawRecord {
        key: Some(reading.device_sn().as_str().into()),
        value: Some(wire::encode(reading)),
        headers: Some(headers),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers;

    use super::*;
    use crate::batch::test_support::delivery;

    /// Returns the record of a delivery, or of another one at its offset.
    fn record(delivery: &Delivery) -> RawRecord {
        let value = delivery.reading.as_ref().ok().map(wire::encode);
        RawRecord { value, ..RawRecord::default() }
    }

    fn header(record: &RawRecord, name: &str) -> Option<String> {
        let headers = record.headers.as_ref()?;
        let found = headers.iter().find(|header| header.key == name)?;
        Some(String::from_utf8_lossy(found.value?).into_owned())
    }

    #[test]
    fn a_letter_is_its_record_or_says_that_it_was_encoded_again() {
        let own =
            Delivery { replay: Some(Replay::DeadLetter(4, 17)), ..delivery(0, 5, "a", 0, 80) };
        let reading = own.reading.as_ref().unwrap();
        let found = |records: &[RawRecord], unanswered: &[i32]| {
            let records = records.iter().map(|record| ((0, 5), record.clone())).collect();
            let unanswered = unanswered.iter().copied().collect();
            FoundRecords { records, unanswered }.take(&own, reading)
        };
        let taken = found(&[record(&own)], &[0]).unwrap();
        assert_eq!((taken.value, taken.headers.is_none()), (record(&own).value, true));
        assert!(found(&[], &[0]).is_none(), "Kafka may still have it");
        let other = record(&delivery(0, 5, "b", 0, 80));
        for records in [&[][..], &[other]] {
            let taken = found(records, &[1]).unwrap();
            assert_eq!(taken.value, record(&own).value);
            assert_eq!(taken.key.as_deref(), Some(&b"a"[..]));
            assert_eq!(header(&taken, ENCODED_AGAIN).as_deref(), Some("true"));
            assert_eq!(Replay::of_headers(taken.headers.as_ref().unwrap()), own.replay);
        }
    }
}
