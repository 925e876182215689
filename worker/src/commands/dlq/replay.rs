//! Sends records through the readings topic again, with their keys and headers, at a limited rate.
//! A replay can be resumed, because its position moves only past records that Kafka has confirmed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use ljwx_service::kafka::publisher::{OutgoingRecord, Publisher, PublisherLimits};
use ljwx_service::kafka::{MESSAGE_BYTES_MAX, REQUEST_TIMEOUT};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::{Offset, TopicPartitionList};

use super::args::{DlqArgs, KeptTopic};
use super::record::{KeptRecord, ReplayRecord};
use super::topic::open;

/// Limits of the producer.
const LIMITS: PublisherLimits = PublisherLimits {
    message_timeout: Duration::from_secs(30),
    linger: Duration::from_millis(5),
    queue_kbytes: 64 * 1024,
    queue_records: 10_000,
    message_bytes_max: MESSAGE_BYTES_MAX,
};

/// The result of a replay.
#[derive(Debug, Default, PartialEq, Eq)]
struct ReplayTotals {
    sent: usize,
    unreadable: usize,
    exhausted: usize,
}

/// Replays the records that `config` selects.
#[expect(clippy::print_stdout, reason = "the command's answer")]
pub async fn run(
    config: &DlqArgs,
    dry_run: bool,
    rate: u32,
    max_replays: u32,
    name: &str,
) -> anyhow::Result<()> {
    let position = ReplayCursor::new(config, name)?;
    let own = config.clone();
    let starts = position.starts.clone();
    let records = tokio::task::spawn_blocking(move || {
        let (reader, topic, ends) = open(&own)?;
        let stretches = ends
            .iter()
            .map(|(partition, ends)| {
                let start = starts.get(partition).copied().unwrap_or(ends.low).max(ends.low);
                (*partition, start..ends.high)
            })
            .collect();
        let mut records = Vec::new();
        reader.read(&topic, &stretches, |message| {
            records.push(KeptRecord::of(message));
            anyhow::ensure!(
                records.len() <= RECORDS_MAX,
                "more than {RECORDS_MAX} records: use --from and --to, and several --name"
            );
            Ok(())
        })?;
        anyhow::Ok(records)
    })
    .await??;
    let publisher = Publisher::new(config.kafka.client_config("worker-dlq"), &LIMITS)?;
    let mut totals = ReplayTotals::default();
    let pace = Duration::from_secs(1) / rate;
    for record in &records {
        if config.accepts(record) {
            let begun = Instant::now();
            let sent = totals.sent;
            replay(config, record, max_replays, (!dry_run).then_some(&publisher), &mut totals)
                .await?;
            let share = pace * u32::try_from(totals.sent - sent).unwrap_or(u32::MAX);
            if !dry_run {
                tokio::time::sleep(share.saturating_sub(begun.elapsed())).await;
            }
        }
        if !dry_run {
            position.pass(record)?;
        }
    }
    let verb = if dry_run { "would be sent" } else { "sent" };
    println!(
        "{} reading(s) {verb}, {} record(s) still unreadable, {} replayed {max_replays} times already",
        totals.sent, totals.unreadable, totals.exhausted
    );
    Ok(())
}

/// Most records of one run. All records are read before the first is sent, so that a record that
/// comes back meanwhile is not sent again.
const RECORDS_MAX: usize = 100_000;

async fn replay(
    config: &DlqArgs,
    record: &KeptRecord,
    max_replays: u32,
    publisher: Option<&Publisher>,
    totals: &mut ReplayTotals,
) -> anyhow::Result<()> {
    if record.replays() >= max_replays {
        totals.exhausted += 1;
        return Ok(());
    }
    let readings = record.replayed(config.topic, &config.zone.zone);
    if readings.is_empty() {
        totals.unreadable += 1;
    }
    for reading in readings {
        if let Some(publisher) = publisher {
            // A dead letter goes back to the partition of its delivery, even from another
            // partition.
            let partition = match config.topic {
                KeptTopic::DeadLetters => record.source_partition(),
                KeptTopic::Rejects => None,
            };
            send(publisher, &config.kafka.readings_topic, partition, &reading).await?;
        }
        totals.sent += 1;
    }
    Ok(())
}

async fn send(
    publisher: &Publisher,
    topic: &str,
    partition: Option<i32>,
    reading: &ReplayRecord,
) -> anyhow::Result<()> {
    let headers = reading.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value) })
    });
    let pending = publisher.enqueue(OutgoingRecord {
        topic,
        key: reading.key.as_deref(),
        partition,
        value: &reading.value,
        headers,
        // With its own time, retention might delete the record before a worker reads it.
        timestamp_ms: None,
    })?;
    pending.confirmed().await.context("stopped; the same command goes on from here")?;
    Ok(())
}

/// The position of a replay, which Kafka keeps under the replay's name.
struct ReplayCursor {
    consumer: BaseConsumer,
    topic: String,
    starts: BTreeMap<i32, i64>,
}

impl ReplayCursor {
    fn new(config: &DlqArgs, name: &str) -> anyhow::Result<Self> {
        let topic = config.topic_name();
        let consumer: BaseConsumer = config
            .kafka
            .client_config("worker-dlq")
            .set("group.id", format!("{}.{name}", config.group))
            .set("enable.auto.commit", "false")
            .create()?;
        let (_, _, ends) = open(config)?;
        let mut asked = TopicPartitionList::new();
        for partition in ends.keys() {
            asked.add_partition(&topic, *partition);
        }
        let committed = consumer.committed_offsets(asked, REQUEST_TIMEOUT)?;
        let starts = committed
            .elements()
            .iter()
            .filter_map(|element| match element.offset() {
                Offset::Offset(offset) => Some((element.partition(), offset)),
                _ => None,
            })
            .collect();
        Ok(Self { consumer, topic, starts })
    }

    fn pass(&self, record: &KeptRecord) -> anyhow::Result<()> {
        let mut list = TopicPartitionList::new();
        let next = Offset::Offset(record.offset + 1);
        list.add_partition_offset(&self.topic, record.partition, next)?;
        self.consumer.commit(&list, CommitMode::Sync).context("cannot note the position")
    }
}
