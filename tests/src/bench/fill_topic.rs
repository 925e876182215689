//! Prepares a world for a run: puts readings into its topic and empties the worker's tables. Making
//! the readings belongs to [`super::workload`].

use std::time::Duration;

use anyhow::Context;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use super::workload::{Feed, Sample, Workload};
use crate::clients::kafka;
use crate::stack::world::World;

/// The longest that filling a topic may take.
const FILLED_WITHIN: Duration = Duration::from_secs(60);

/// The trace context of a reading that is not sampled, as the gateway adds it.
const UNTRACED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

fn headers(traceparent: &str) -> OwnedHeaders {
    [("traceparent", traceparent), ("schema", ljwx_reading::wire::SCHEMA)]
        .into_iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        })
}

/// Puts readings into a world's topic.
pub(super) struct Filler {
    producer: ThreadedProducer<DefaultProducerContext>,
    topic: String,
}

impl Filler {
    pub(super) fn new(world: &World) -> anyhow::Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &world.stack.kafka_brokers)
            // A feed's offsets equal the topic's only if no record is sent twice.
            .set("enable.idempotence", "true")
            .set("queue.buffering.max.messages", "1000000")
            .create()?;
        Ok(Self { producer, topic: world.readings_topic.clone() })
    }

    /// Queues readings; waits while the queue is full.
    pub(super) fn send<'a>(
        &self,
        samples: impl IntoIterator<Item = &'a Sample>,
    ) -> anyhow::Result<()> {
        for sample in samples {
            self.put(&sample.device, sample.partition, &sample.value())?;
        }
        Ok(())
    }

    /// Queues the record of one reading; waits while the queue is full.
    pub(super) fn put(&self, device: &str, partition: usize, value: &str) -> anyhow::Result<()> {
        self.queue(device, partition, value, UNTRACED)
    }

    /// Queues one reading with this trace context.
    pub(super) fn send_under(&self, sample: &Sample, context: &str) -> anyhow::Result<()> {
        self.queue(&sample.device, sample.partition, &sample.value(), context)
    }

    fn queue(
        &self,
        device: &str,
        partition: usize,
        value: &str,
        context: &str,
    ) -> anyhow::Result<()> {
        let mut record = BaseRecord::to(&self.topic)
            .key(device)
            .partition(partition as i32)
            .payload(value)
            .headers(headers(context));
        while let Err((error, back)) = self.producer.send(record) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            anyhow::ensure!(error == full, "cannot fill the topic: {error}");
            self.producer.flush(FILLED_WITHIN).context("filling the topic")?;
            record = back;
        }
        Ok(())
    }

    /// Waits until Kafka has all queued records.
    pub(super) fn flush(&self) -> anyhow::Result<()> {
        self.producer.flush(FILLED_WITHIN).context("filling the topic")
    }
}

/// Fills a world's topic and returns the readings.
pub(super) async fn filled(
    world: &World,
    workload: Workload,
    readings: usize,
) -> anyhow::Result<Vec<Sample>> {
    world.migrate().await?;
    let samples: Vec<Sample> = Feed::new(world, workload, readings).take(readings).collect();
    let filler = Filler::new(world)?;
    filler.send(&samples)?;
    filler.flush()?;
    let ends = kafka::watermarks(&world.stack.kafka_brokers, &world.readings_topic).await?;
    let sent: i64 = ends.iter().map(|end| end.high - end.low).sum();
    anyhow::ensure!(sent == readings as i64, "{sent} records in the topic, not {readings}");
    Ok(samples)
}

/// Clears all that was stored; the topic stays.
pub(super) async fn cleared(world: &World) -> anyhow::Result<()> {
    for table in ["t_user_health_data", "t_user_health_data_daily", "t_user_health_data_weekly"] {
        world.database.execute(&format!("TRUNCATE TABLE {table}")).await?;
    }
    // Without its row a partition starts with its first record again.
    world.database.execute("DELETE FROM ingest_progress").await?;
    world.cache.remove(&world.serial_prefix()).await
}
