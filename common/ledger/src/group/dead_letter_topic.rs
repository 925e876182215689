//! Publishes dead letters: unchanged deliveries that cannot be processed, with their origin and the
//! reason.
//!
//! Leaves to the services which deliveries are dead letters, and how many are too many.

use std::borrow::Cow;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use metrics::counter;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::delivery::{Delivery, RawRecord};
use crate::dead_letter_headers::{
    ATTEMPTS, CUT_FROM_BYTES, ERROR_CLASS, ERROR_CODE, ERROR_MESSAGE, FIRST_FAILED_AT,
    SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC, last_header,
};
use crate::metrics::{DEAD_LETTER_PRODUCER_RESTARTS, DEAD_LETTERS, DEAD_LETTERS_ALTERED};
use ljwx_reading::wire::DecodeError;
use ljwx_service::backoff::Backoff;
use ljwx_service::kafka::producer::publisher::{
    ACK_STALL, OutgoingRecord, PendingRecord, PublishError, Publisher, PublisherLimits,
};
use ljwx_service::kafka::{DEAD_LETTER_BYTES_MAX, KafkaArgs};
use ljwx_service::lifecycle::EssentialTasks;

/// Limits of the producer.
const LIMITS: PublisherLimits = PublisherLimits {
    message_timeout: Duration::from_secs(30),
    ack_stall: ACK_STALL,
    linger: Duration::from_millis(5),
    queue_kbytes: 16 * 1024,
    queue_records: 10_000,
    message_bytes_max: DEAD_LETTER_BYTES_MAX,
};

/// First wait after a dead letter was not confirmed.
const RETRY_FIRST: Duration = Duration::from_millis(100);

/// Longest wait between attempts.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// The class of a dead letter. The words are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The record's value cannot be decoded as a reading.
    Undecodable,
    /// The record has no value.
    Tombstone,
    /// MySQL rejects a value of the reading.
    Data,
}

impl ErrorClass {
    /// Returns the class of a record that cannot be decoded.
    pub fn of(error: &DecodeError) -> Self {
        match error {
            DecodeError::Tombstone => Self::Tombstone,
            DecodeError::Json(_) | DecodeError::Field(_) => Self::Undecodable,
        }
    }

    /// Returns the stable word for headers and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::Tombstone => "tombstone",
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
    /// The batch of the delivery, if the service names its batches.
    pub batch_id: Option<&'a str>,
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
    /// Creates the producer for the dead letters of `group`. The brokers log it as `client_id`.
    pub fn connect(kafka: &KafkaArgs, client_id: &str, group: &str) -> Result<Self, KafkaError> {
        Ok(Self {
            publisher: Publisher::new(kafka.client_config(client_id), &LIMITS)?,
            topic: kafka.dead_letter_topic(group),
            source_topic: kafka.readings_topic.clone(),
            group: group.to_owned(),
        })
    }

    /// Like [`Self::connect`]. Until `stop`, replaces the producer whenever it fails for good. The
    /// process ends if too many in a row fail.
    pub fn start(
        kafka: &KafkaArgs,
        client_id: &str,
        group: &str,
        essential: &EssentialTasks,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let topic = Self::connect(kafka, client_id, group)
            .context("cannot create the producer; look at --kafka-set")?;
        let producer = topic.publisher.clone().keep_alive(DEAD_LETTER_PRODUCER_RESTARTS);
        essential.spawn("the dead-letter producer", stop, producer);
        Ok(topic)
    }

    /// Returns the name of the topic.
    pub fn name(&self) -> &str {
        &self.topic
    }

    /// Publishes a dead letter until Kafka confirms it, counts it, and returns its form. An attempt
    /// without an answer may have reached Kafka, so the topic may hold a dead letter twice.
    ///
    /// `held` receives the reason after each failed attempt, and `None` at the end.
    pub async fn publish(
        &self,
        delivery: &Delivery,
        record: &RawRecord,
        reason: &DeadLetterReason<'_>,
        held: impl Fn(Option<String>),
    ) -> DeadLetterForm {
        let (partition, offset) = (delivery.partition, delivery.offset);
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        loop {
            let error = match self.send(delivery, record, *reason).await {
                Ok(form) => {
                    held(None);
                    return form;
                }
                Err(error) => error,
            };
            held(Some(format!("dead letter {partition}/{offset}: {error}")));
            if backoff.attempts() == 0 {
                warn!(partition, offset, %error, "cannot publish dead letter, its partition waits, retrying");
            }
            tokio::time::sleep(backoff.next(rand::random())).await;
        }
    }

    /// Hands the record of a delivery to Kafka as a dead letter, at once. The future tries other
    /// forms if Kafka rejects this one, counts the dead letter once Kafka has confirmed it, and
    /// returns its form.
    pub fn send<'a>(
        &'a self,
        delivery: &'a Delivery,
        record: &'a RawRecord,
        reason: DeadLetterReason<'a>,
    ) -> impl Future<Output = Result<DeadLetterForm, PublishError>> + Send + 'a {
        let mut form = DeadLetterForm::UNCHANGED;
        let mut sent = self.enqueue(delivery, record, &reason, form);
        async move {
            loop {
                let confirmed = match sent {
                    Ok(pending) => pending.confirmed().await,
                    Err(error) => Err(error),
                };
                let Err(error) = confirmed else { break };
                form = form.after(&error).ok_or(error)?;
                sent = self.enqueue(delivery, record, &reason, form);
            }
            counter!(DEAD_LETTERS, "class" => reason.class.as_str()).increment(1);
            for (altered, how) in [(!form.same_partition, "elsewhere"), (!form.complete, "cut")] {
                counter!(DEAD_LETTERS_ALTERED, "how" => how).increment(u64::from(altered));
            }
            Ok(form)
        }
    }

    /// Hands a dead letter to Kafka in this form. It counts once its delivery report arrives. A cut
    /// dead letter has the header [`CUT_FROM_BYTES`] and none of the record's own headers.
    fn enqueue(
        &self,
        delivery: &Delivery,
        record: &RawRecord,
        reason: &DeadLetterReason<'_>,
        form: DeadLetterForm,
    ) -> Result<PendingRecord, PublishError> {
        let now = Timestamp::now().to_string();
        let DeadLetterReason { class, code, message, batch_id } = *reason;
        let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
        let (first_failed_at, attempts) = failures(record.headers.as_ref(), &now);
        let provenance = [
            (SOURCE_TOPIC, self.source_topic.clone()),
            (SOURCE_PARTITION, delivery.partition.to_string()),
            (SOURCE_OFFSET, delivery.offset.to_string()),
            ("dlq.source.timestamp", delivery.kafka_ms.to_string()),
            (ERROR_CLASS, class.as_str().to_owned()),
            (ERROR_CODE, code.unwrap_or_default().to_owned()),
            (ERROR_MESSAGE, message[..end].to_owned()),
            ("dlq.batch.id", batch_id.unwrap_or_default().to_owned()),
            (FIRST_FAILED_AT, first_failed_at),
            ("dlq.last_failed_at", now),
            (ATTEMPTS, attempts.to_string()),
            ("dlq.consumer.group", self.group.clone()),
            ("dlq.app.version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        let original = if form.complete { record.headers.clone() } else { None };
        let mut headers = provenance.iter().fold(
            original.unwrap_or_default(),
            |headers: OwnedHeaders, (key, value)| {
                headers.insert(Header { key, value: Some(value.as_bytes()) })
            },
        );
        let (mut key, mut value) = (record.key.as_deref(), record.value.as_deref());
        if !form.complete {
            let length = value.map_or(0, <[u8]>::len).to_string();
            headers =
                headers.insert(Header { key: CUT_FROM_BYTES, value: Some(length.as_bytes()) });
            key = key.filter(|key| key.len() <= CUT_KEY_BYTES_MAX);
            value = value.map(|value| &value[..value.len().min(CUT_BYTES_MAX)]);
        }
        self.publisher.enqueue(OutgoingRecord {
            topic: &self.topic,
            key: key.map(Cow::Borrowed),
            // The topics have equally many partitions, so a dead letter keeps the partition of its
            // source.
            partition: form.same_partition.then_some(delivery.partition),
            value: value.map(Cow::Borrowed),
            headers,
            timestamp_ms: Some(delivery.kafka_ms),
        })
    }
}

/// Returns the time of a delivery's first failure and the number of its failures, the present one
/// included. A replayed delivery has the earlier ones in its headers.
fn failures(headers: Option<&OwnedHeaders>, now: &str) -> (String, u32) {
    let earlier = last_header(headers, ATTEMPTS).and_then(|count| count.parse().ok());
    let first = last_header(headers, FIRST_FAILED_AT).unwrap_or(now);
    (first.to_owned(), earlier.unwrap_or(0_u32).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_that_came_back_keeps_its_first_failure_and_counts_on() {
        let header = |key, value: &'static str| Header { key, value: Some(value) };
        let (first, now) = ("2025-09-02T08:09:00Z", "2025-09-03T08:09:00Z");
        assert_eq!(failures(None, now), (now.to_owned(), 1));
        let replayed = OwnedHeaders::new()
            .insert(header(FIRST_FAILED_AT, first))
            .insert(header(ATTEMPTS, "1"))
            .insert(header(ATTEMPTS, "2"));
        assert_eq!(failures(Some(&replayed), now), (first.to_owned(), 3));
        let strange = OwnedHeaders::new().insert(header(ATTEMPTS, "many"));
        assert_eq!(failures(Some(&strange), now), (now.to_owned(), 1));
    }

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
