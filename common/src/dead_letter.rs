//! Dead letters: what cannot be stored, kept verbatim with where it came from and why.

use jiff::Timestamp;
use rdkafka::message::{Header, OwnedHeaders};

use crate::publisher::{Outgoing, Pending, PublishError, Publisher};
use crate::source::Delivery;

/// Why a delivery cannot be stored. The words are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The record's value is no reading.
    Undecodable,
    /// The database refuses a value of it.
    Data,
}

impl ErrorClass {
    /// The stable word: header and metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::Data => "data",
        }
    }
}

/// What is said about a dead letter.
#[derive(Debug, Clone, Copy)]
pub struct Reason<'a> {
    /// The stable word.
    pub class: ErrorClass,
    /// The database's own code, as number and SQLSTATE.
    pub code: Option<&'a str>,
    /// What is wrong, without any value.
    pub message: &'a str,
    /// The batch it was in.
    pub batch_id: &'a str,
}

/// Longest error message a header carries, in bytes.
const MESSAGE_BYTES_MAX: usize = 512;

/// The dead-letter topic of one consumer group.
#[derive(Clone)]
pub struct DeadLetters {
    publisher: Publisher,
    topic: String,
    source_topic: String,
    group: String,
}

impl DeadLetters {
    /// Dead letters of `group`, which reads `source_topic`, go to `topic`.
    pub fn new(publisher: Publisher, topic: String, source_topic: String, group: String) -> Self {
        Self { publisher, topic, source_topic, group }
    }

    /// The topic.
    pub fn name(&self) -> &str {
        &self.topic
    }

    /// Hands a delivery to Kafka as it came; it counts once the result is confirmed.
    pub fn send(&self, delivery: &Delivery, reason: &Reason<'_>) -> Result<Pending, PublishError> {
        let now = Timestamp::now().to_string();
        let Reason { class, code, message, batch_id } = *reason;
        let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
        let provenance = [
            ("dlq.source.topic", self.source_topic.clone()),
            ("dlq.source.partition", delivery.partition.to_string()),
            ("dlq.source.offset", delivery.offset.to_string()),
            ("dlq.source.timestamp", delivery.kafka_ms.to_string()),
            ("dlq.error.class", class.as_str().to_owned()),
            ("dlq.error.code", code.unwrap_or_default().to_owned()),
            ("dlq.error.message", message[..end].to_owned()),
            ("dlq.batch.id", batch_id.to_owned()),
            ("dlq.first_failed_at", now.clone()),
            ("dlq.last_failed_at", now),
            ("dlq.attempts", "1".to_owned()),
            ("dlq.consumer.group", self.group.clone()),
            ("dlq.app.version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        let original = delivery.record.headers.clone().unwrap_or_default();
        let headers = provenance.iter().fold(original, |headers: OwnedHeaders, (key, value)| {
            headers.insert(Header { key, value: Some(value.as_bytes()) })
        });
        self.publisher.enqueue(Outgoing {
            topic: &self.topic,
            key: delivery.record.key.as_deref(),
            // The topics have as many partitions, so letters stay beside what they came from.
            partition: Some(delivery.partition),
            value: &delivery.record.value,
            headers,
            timestamp_ms: Some(delivery.kafka_ms),
        })
    }
}
