//! Connects to Kafka, checks and creates topics, publishes, and reads topics without a consumer
//! group.

mod client;
pub mod error_log;
mod group_members;
mod librdkafka;
pub mod partitioner;
pub mod producer;
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
