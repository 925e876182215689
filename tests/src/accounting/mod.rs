//! Compares the answers that clients got with the contents of Kafka, MySQL and Redis.

pub mod history;
pub mod verdict;
