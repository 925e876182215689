//! Dead letters: what cannot be stored, kept verbatim with where it came from and why.

use jiff::Timestamp;
use rdkafka::message::{Header, OwnedHeaders};

use super::delivery::Delivery;
use ljwx_service::kafka::publisher::{Outgoing, Pending, PublishError, Publisher};

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

/// Where a letter lies and how much of its delivery it holds.
///
/// What Kafka refuses goes in the next form: a partition must not wait for ever for one record that
/// its topic cannot take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// In the partition of the number that its source has, beside what it came from.
    pub beside: bool,
    /// With its whole value, key and headers.
    pub whole: bool,
}

impl Form {
    /// As the delivery came, beside its source.
    pub const AS_IT_CAME: Self = Self { beside: true, whole: true };

    /// The form to try once Kafka has refused this one; `None` where no form would help.
    pub fn after(self, refusal: &PublishError) -> Option<Self> {
        match refusal {
            PublishError::NoSuchPartition if self.beside => Some(Self { beside: false, ..self }),
            PublishError::TooLarge if self.whole => Some(Self { whole: false, ..self }),
            _ => None,
        }
    }
}

/// Header of a letter that was cut: the length of its value as it came, in bytes.
pub const CUT_FROM_BYTES: &str = "dlq.cut.from_bytes";

/// Most bytes of a value that is cut: with the headers below what a topic takes that nobody
/// configured, 1 MiB.
const CUT_BYTES_MAX: usize = 256 * 1024;

/// Longest key of a letter that is cut; a longer one is left out.
const CUT_KEY_BYTES_MAX: usize = 1024;

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

    /// Hands a delivery to Kafka in this form; it counts once the result is confirmed. A letter that
    /// is cut says so by [`CUT_FROM_BYTES`] and has none of the record's own headers.
    pub fn send(
        &self,
        delivery: &Delivery,
        reason: &Reason<'_>,
        form: Form,
    ) -> Result<Pending, PublishError> {
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
        let record = &delivery.record;
        let original = if form.whole { record.headers.clone() } else { None };
        let mut headers = provenance.iter().fold(
            original.unwrap_or_default(),
            |headers: OwnedHeaders, (key, value)| {
                headers.insert(Header { key, value: Some(value.as_bytes()) })
            },
        );
        let (mut key, mut value) = (record.key.as_deref(), record.value.as_slice());
        if !form.whole {
            let length = value.len().to_string();
            headers =
                headers.insert(Header { key: CUT_FROM_BYTES, value: Some(length.as_bytes()) });
            key = key.filter(|key| key.len() <= CUT_KEY_BYTES_MAX);
            value = &value[..value.len().min(CUT_BYTES_MAX)];
        }
        self.publisher.enqueue(Outgoing {
            topic: &self.topic,
            key,
            // The topics have as many partitions, so letters stay beside what they came from.
            partition: form.beside.then_some(delivery.partition),
            value,
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
        let first = Form::AS_IT_CAME;
        let elsewhere = first.after(&PublishError::NoSuchPartition);
        assert_eq!(elsewhere, Some(Form { beside: false, whole: true }));
        let cut = first.after(&PublishError::TooLarge);
        assert_eq!(cut, Some(Form { beside: true, whole: false }));
        let both = cut.and_then(|form| form.after(&PublishError::NoSuchPartition));
        assert_eq!(both, Some(Form { beside: false, whole: false }));
        for refusal in [PublishError::TooLarge, PublishError::NoSuchPartition] {
            assert_eq!(both.and_then(|form| form.after(&refusal)), None);
        }
        for passing in [PublishError::QueueFull, PublishError::Unconfirmed(String::new())] {
            assert_eq!(first.after(&passing), None);
        }
    }
}
