//! Readings into a world's topic.

use std::time::Duration;

use anyhow::Context;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use super::workload::Sample;
use crate::stack::world::World;

/// How long filling a topic may take.
const FILLED_WITHIN: Duration = Duration::from_secs(60);

/// What the gateway adds to a reading that is not traced.
const UNTRACED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

fn headers(traceparent: &str) -> OwnedHeaders {
    [("traceparent", traceparent), ("schema", ljwx_reading::wire::SCHEMA)]
        .into_iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        })
}

/// Puts readings into a world's topic.
pub(in crate::bench) struct Filler {
    producer: ThreadedProducer<DefaultProducerContext>,
    topic: String,
}

impl Filler {
    pub(in crate::bench) fn new(world: &World) -> anyhow::Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &world.stack.kafka_brokers)
            // A feed's offsets are the topic's only if nothing is sent twice.
            .set("enable.idempotence", "true")
            .set("queue.buffering.max.messages", "1000000")
            .create()?;
        Ok(Self { producer, topic: world.readings_topic.clone() })
    }

    /// Queues readings; waits while the queue is full.
    pub(in crate::bench) fn send<'a>(
        &self,
        samples: impl IntoIterator<Item = &'a Sample>,
    ) -> anyhow::Result<()> {
        for sample in samples {
            self.put(&sample.device, sample.partition, &sample.value())?;
        }
        Ok(())
    }

    /// Queues the record of one reading; waits while the queue is full.
    pub(in crate::bench) fn put(
        &self,
        device: &str,
        partition: usize,
        value: &str,
    ) -> anyhow::Result<()> {
        self.queue(device, partition, value, UNTRACED)
    }

    /// Queues one reading with this context.
    pub(in crate::bench) fn send_under(
        &self,
        sample: &Sample,
        context: &str,
    ) -> anyhow::Result<()> {
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

    /// Waits until Kafka has all of it.
    pub(in crate::bench) fn flush(&self) -> anyhow::Result<()> {
        self.producer.flush(FILLED_WITHIN).context("filling the topic")
    }
}
