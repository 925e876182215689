//! The reasons why a record is not known to be in Kafka.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// The reason why a record is not known to be in Kafka.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The queue has no place for all records, so none was enqueued.
    #[error("the queue to Kafka has no place for all records")]
    NoPlace,
    /// The producer had no room for a record that had a place. Earlier records are enqueued.
    #[error("the queue to Kafka is full")]
    QueueFull,
    /// The record is larger than Kafka takes.
    #[error("the record is larger than Kafka takes")]
    TooLarge,
    /// The topic has no such partition.
    #[error("the topic has no such partition")]
    NoSuchPartition,
    /// No delivery report confirmed the record. Kafka may have stored it nevertheless.
    #[error("Kafka did not confirm the record: {0}")]
    Unconfirmed(String),
}

impl From<KafkaError> for PublishError {
    fn from(error: KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => Self::QueueFull,
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => Self::TooLarge,
            Some(RDKafkaErrorCode::UnknownPartition) => Self::NoSuchPartition,
            Some(code) => Self::Unconfirmed(code.to_string()),
            None => Self::Unconfirmed(error.to_string()),
        }
    }
}
