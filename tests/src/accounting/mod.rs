//! What clients were told, held against what Kafka, MySQL and Redis have.

pub mod history;
pub mod verdict;
