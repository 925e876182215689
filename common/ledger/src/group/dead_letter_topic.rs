//! Publishes dead letters: unchanged deliveries that cannot be stored, with their origin and the
//! reason.

use std::borrow::Cow;

use jiff::Timestamp;
use rdkafka::message::{Header, OwnedHeaders};

use super::delivery::Delivery;
use ljwx_service::kafka::publisher::{OutgoingRecord, PendingRecord, PublishError, Publisher};

/// The class of a dead letter. The words are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The record's value cannot be decoded as a reading.
    Undecodable,
    /// MySQL rejects a value of the reading.
    Data,
}

impl ErrorClass {
    /// Returns the stable word for headers and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::Data => "data",
        }
    }
}

/// The reason for a dead letter.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetterReason<'a> {
    /// The stable word.
    pub class: ErrorClass,
    /// The number and SQLSTATE of MySQL's error.
    pub code: Option<&'a str>,
    /// The error message, without any value.
    pub message: &'a str,
    /// The batch of the delivery.
    pub batch_id: &'a str,
}

/// The partition of a dead letter, and how much of the delivery it keeps.
///
/// If Kafka rejects one form, the next is tried: a partition must not wait for ever for one record
/// that the dead-letter topic cannot take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetterForm {
    /// Whether the dead letter goes to the partition with the number of its source.
    pub same_partition: bool,
    /// Whether the dead letter has the whole value, key and headers.
    pub complete: bool,
}

impl DeadLetterForm {
    /// The first form: unchanged, in the partition of its source.
    pub const UNCHANGED: Self = Self { same_partition: true, complete: true };

    /// Returns the form to try after Kafka rejected this one. `None` if no form would help.
    pub fn after(self, refusal: &PublishError) -> Option<Self> {
        match refusal {
            PublishError::NoSuchPartition if self.same_partition => {
                Some(Self { same_partition: false, ..self })
            }
            PublishError::TooLarge if self.complete => Some(Self { complete: false, ..self }),
            _ => None,
        }
    }
}

/// Header of a cut dead letter: the original length of its value, in bytes.
pub const CUT_FROM_BYTES: &str = "dlq.cut.from_bytes";

/// Most bytes of a cut value. With the headers it stays below 1 MiB, the limit of a topic that
/// nobody configured.
const CUT_BYTES_MAX: usize = 256 * 1024;

/// Longest key of a cut dead letter. A longer key is left out.
const CUT_KEY_BYTES_MAX: usize = 1024;

/// Longest error message in a header, in bytes.
const MESSAGE_BYTES_MAX: usize = 512;

/// The dead-letter topic of one consumer group.
#[derive(Clone)]
pub struct DeadLetterTopic {
    publisher: Publisher,
    topic: String,
    source_topic: String,
    group: String,
}

impl DeadLetterTopic {
    /// Creates the dead-letter topic of `group`, which reads `source_topic`.
    pub fn new(publisher: Publisher, topic: String, source_topic: String, group: String) -> Self {
        Self { publisher, topic, source_topic, group }
    }

    /// Returns the name of the topic.
    pub fn name(&self) -> &str {
        &self.topic
    }

    /// Hands a dead letter to Kafka in this form. It counts once its delivery report arrives. A cut
    /// dead letter has the header [`CUT_FROM_BYTES`] and none of the record's own headers.
    pub fn send(
        &self,
        delivery: &Delivery,
        reason: &DeadLetterReason<'_>,
        form: DeadLetterForm,
    ) -> Result<PendingRecord, PublishError> {
        let now = Timestamp::now().to_string();
        let DeadLetterReason { class, code, message, batch_id } = *reason;
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
        let record = &delivery.record;
        let original = if form.complete { record.headers.clone() } else { None };
        let mut headers = provenance.iter().fold(
            original.unwrap_or_default(),
            |headers: OwnedHeaders, (key, value)| {
                headers.insert(Header { key, value: Some(value.as_bytes()) })
            },
        );
        let (mut key, mut value) = (record.key.as_deref(), record.value.as_slice());
        if !form.complete {
            let length = value.len().to_string();
            headers =
                headers.insert(Header { key: CUT_FROM_BYTES, value: Some(length.as_bytes()) });
            key = key.filter(|key| key.len() <= CUT_KEY_BYTES_MAX);
            value = &value[..value.len().min(CUT_BYTES_MAX)];
        }
        self.publisher.enqueue(OutgoingRecord {
            topic: &self.topic,
            key: key.map(Cow::Borrowed),
            // The topics have equally many partitions, so a dead letter keeps the partition of its
            // source.
            partition: form.same_partition.then_some(delivery.partition),
            value: Cow::Borrowed(value),
            headers,
            timestamp_ms: Some(delivery.kafka_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kafka_refuses_goes_in_the_next_form_and_what_may_pass_does_not() {
        let first = DeadLetterForm::UNCHANGED;
        let elsewhere = first.after(&PublishError::NoSuchPartition);
        assert_eq!(elsewhere, Some(DeadLetterForm { same_partition: false, complete: true }));
        let cut = first.after(&PublishError::TooLarge);
        assert_eq!(cut, Some(DeadLetterForm { same_partition: true, complete: false }));
        let both = cut.and_then(|form| form.after(&PublishError::NoSuchPartition));
        assert_eq!(both, Some(DeadLetterForm { same_partition: false, complete: false }));
        for refusal in [PublishError::TooLarge, PublishError::NoSuchPartition] {
            assert_eq!(both.and_then(|form| form.after(&refusal)), None);
        }
        let passing = [
            PublishError::NoPlace,
            PublishError::QueueFull,
            PublishError::Unconfirmed(String::new()),
        ];
        for passing in passing {
            assert_eq!(first.after(&passing), None);
        }
    }
}
