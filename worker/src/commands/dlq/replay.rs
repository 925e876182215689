//! Sends records through the readings topic again, with their keys and headers, at a limited rate.
//! A thread reads the topic and passes its records through a bounded channel, so the memory of a
//! replay does not depend on their number.
//!
//! A replay can be resumed, because its position moves only past records that Kafka has confirmed.
//! Records that were sent after the last commit may be sent again. That changes no value: a replayed
//! dead letter carries its first position, and a reject becomes the same reading.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use anyhow::Context;
use ljwx_reading::FIELD_DROPPED;
use ljwx_service::kafka::MESSAGE_BYTES_MAX;
use ljwx_service::kafka::producer::publisher::{
    ACK_STALL, OutgoingRecord, PublishError, Publisher, PublisherLimits,
};
use ljwx_service::kafka::topic_reader::{OffsetRanges, TopicReader};
use rdkafka::message::{Header, OwnedHeaders};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::args::{DlqArgs, KeptTopic, ReplayArgs};
use super::record::{KeptRecord, ReplayRecord};
use super::replay_position::ReplayPosition;

/// Most records that are read and not sent yet. One may have 2 MiB.
const RECORDS_AHEAD: usize = 16;

/// What an operator does after a stop.
const CONTINUES: &str = "stopped; the same command goes on from here";

/// Limits of the producer.
const LIMITS: PublisherLimits = PublisherLimits {
    message_timeout: Duration::from_secs(30),
    ack_stall: ACK_STALL,
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
    /// Rejects that were skipped because only a field was cut from their stored readings.
    cut_fields: usize,
}

impl ReplayTotals {
    /// Returns the text that the command prints. `position` is the name of the replay's position.
    fn summary(&self, settings: &ReplayArgs, position: &str) -> String {
        let verb = if settings.dry_run { "would be sent" } else { "sent" };
        let mut text = format!(
            "{} reading(s) {verb}, {} record(s) still unreadable, {} replayed {} times already; \
             position {position}",
            self.sent, self.unreadable, self.exhausted, settings.max_replays
        );
        if self.cut_fields > 0 {
            text += &format!(
                "\n{} record(s) kept only for a cut field, skipped: --class {FIELD_DROPPED} sends them",
                self.cut_fields
            );
        }
        text
    }
}

/// Replays the records that `config` selects.
#[expect(clippy::print_stdout, reason = "the command's answer")]
pub async fn run(
    config: &DlqArgs,
    settings: &ReplayArgs,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let (own, name) = (config.clone(), settings.name.clone());
    let opening = tokio::task::spawn_blocking(move || ReplayPosition::open(&own, &name));
    let (mut position, ranges) = opening.await??;
    let (sender, mut records) = mpsc::channel(RECORDS_AHEAD);
    let own = config.clone();
    let reading = tokio::task::spawn_blocking(move || read(&own, &ranges, &sender));
    let publisher = if settings.dry_run {
        None
    } else {
        Some(Publisher::new(config.kafka.client_config("worker-dlq"), &LIMITS)?)
    };
    let totals = ReplayTotals::default();
    let mut replay = Replay { config, settings, publisher, totals };
    let sent = replay.send_all(&mut records, &mut position, stop).await;
    // However the replay ended, Kafka has confirmed the records before the position.
    let committed = position.commit();
    sent?;
    committed?;
    // The channel has ended, and with it the thread: only its error is missing.
    reading.await??;
    println!("{}", replay.totals.summary(settings, &position.name));
    Ok(())
}

/// Reads the records into `sender`, and waits while it is full. Blocks.
fn read(
    config: &DlqArgs,
    ranges: &OffsetRanges,
    sender: &mpsc::Sender<KeptRecord>,
) -> anyhow::Result<()> {
    let reader = TopicReader::new(&config.kafka, "worker-dlq")?;
    reader.read(&config.topic_name(), ranges, |message| {
        sender.blocking_send(KeptRecord::of(message)).context("the replay has stopped")
    })
}

/// A running replay.
struct Replay<'a> {
    config: &'a DlqArgs,
    settings: &'a ReplayArgs,
    /// `None`: nothing is sent.
    publisher: Option<Publisher>,
    totals: ReplayTotals,
}

impl Replay<'_> {
    /// Sends the selected records at the wanted rate, and moves the position past every record.
    async fn send_all(
        &mut self,
        records: &mut mpsc::Receiver<KeptRecord>,
        position: &mut ReplayPosition,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let pace = Duration::from_secs(1) / self.settings.rate;
        loop {
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => anyhow::bail!(CONTINUES),
                next = records.recv() => next,
            };
            let Some(record) = next else { return Ok(()) };
            let begun = Instant::now();
            let sent = if self.config.accepts(&record) { self.replay(&record).await? } else { 0 };
            if self.publisher.is_none() {
                continue;
            }
            position.pass(record.partition, record.offset)?;
            let left = (pace * sent).saturating_sub(begun.elapsed());
            if !left.is_zero() {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(left) => {}
                }
            }
        }
    }

    /// Sends the readings of a record, and returns their number.
    async fn replay(&mut self, record: &KeptRecord) -> anyhow::Result<u32> {
        // The reading of such a reject is stored. Sent again without need, it counts as merged.
        if record.class() == FIELD_DROPPED && self.config.filter.class.is_none() {
            self.totals.cut_fields += 1;
            return Ok(0);
        }
        if record.replays() >= self.settings.max_replays {
            self.totals.exhausted += 1;
            return Ok(0);
        }
        let readings = record.replayed(self.config.topic, &self.config.zone.zone);
        if readings.is_empty() {
            self.totals.unreadable += 1;
        }
        // A dead letter goes back to the partition of its delivery, even from another partition.
        let partition = match self.config.topic {
            KeptTopic::DeadLetters => record.source_partition(),
            KeptTopic::Rejects => None,
        };
        for reading in &readings {
            if let Some(publisher) = &self.publisher {
                send(publisher, &self.config.kafka.readings_topic, partition, reading).await?;
            }
            self.totals.sent += 1;
        }
        Ok(u32::try_from(readings.len()).unwrap_or(u32::MAX))
    }
}

/// Sends a record to this partition, or to that of its key if the topic was recreated without it.
async fn send(
    publisher: &Publisher,
    topic: &str,
    partition: Option<i32>,
    reading: &ReplayRecord,
) -> anyhow::Result<()> {
    let sent = send_to(publisher, topic, partition, reading).await;
    let sent = match (sent, partition) {
        (Err(PublishError::NoSuchPartition), Some(_)) => {
            send_to(publisher, topic, None, reading).await
        }
        (sent, _) => sent,
    };
    sent.context(CONTINUES)
}

async fn send_to(
    publisher: &Publisher,
    topic: &str,
    partition: Option<i32>,
    reading: &ReplayRecord,
) -> Result<(), PublishError> {
    let headers = reading.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value) })
    });
    let pending = publisher.enqueue(OutgoingRecord {
        topic,
        key: reading.key.as_deref().map(Cow::Borrowed),
        partition,
        value: reading.value.as_deref().map(Cow::Borrowed),
        headers,
        // With its own time, retention might delete the record before a worker reads it.
        timestamp_ms: None,
    })?;
    pending.confirmed().await.map(drop)
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::mocking::MockCluster;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_record_of_a_partition_that_is_gone_goes_to_that_of_its_key() {
        let brokers = MockCluster::new(1).unwrap();
        brokers.create_topic("readings", 1, 1).unwrap();
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", brokers.bootstrap_servers());
        let publisher = Publisher::new(client, &LIMITS).unwrap();
        let (key, value) = (Some(b"a".to_vec()), Some(b"{}".to_vec()));
        let record = ReplayRecord { key, value, headers: Vec::new() };
        for partition in [Some(0), Some(3), None] {
            send(&publisher, "readings", partition, &record).await.unwrap();
        }
    }

    #[test]
    fn the_summary_names_the_position_and_what_was_skipped() {
        let settings =
            ReplayArgs { dry_run: false, rate: 1, max_replays: 3, name: "replay".to_owned() };
        let totals = ReplayTotals { sent: 2, unreadable: 1, exhausted: 4, cut_fields: 0 };
        assert_eq!(
            totals.summary(&settings, "worker.replay"),
            "2 reading(s) sent, 1 record(s) still unreadable, 4 replayed 3 times already; \
             position worker.replay"
        );
        let (settings, totals) = (
            ReplayArgs { dry_run: true, ..settings },
            ReplayTotals { cut_fields: 5, ..ReplayTotals::default() },
        );
        let text = totals.summary(&settings, "worker.replay");
        assert!(text.starts_with("0 reading(s) would be sent"), "{text}");
        assert!(
            text.ends_with(
                "\n5 record(s) kept only for a cut field, skipped: --class field_dropped sends them"
            ),
            "{text}"
        );
    }
}
