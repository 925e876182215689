//! Connects to Kafka, checks and creates topics, publishes, and reads topics without a consumer
//! group.

mod acknowledgement;
#[cfg(test)]
mod acknowledgement_tests;
mod client;
mod group_members;
mod librdkafka;
mod producer_health;
mod producer_renewal;
mod publish_error;
pub mod publisher;
#[cfg(test)]
mod publisher_tests;
mod recent_sum;
pub mod record_trace;
pub mod topic_ends;
pub mod topic_identity;
pub mod topic_reader;
pub mod topic_safety;
pub mod topic_settings;
mod topics;

pub use client::{KafkaArgs, REQUEST_TIMEOUT, error_label};
pub use topics::{
    DEAD_LETTER_BYTES_MAX, DEAD_LETTER_RETENTION, MESSAGE_BYTES_MAX, READINGS_RETENTION,
    REJECTS_RETENTION_BYTES, TopicSpec, create_missing, extend,
};
