//! Publishes records, and judges Kafka by its acknowledgements.

mod acknowledgement;
#[cfg(test)]
mod acknowledgement_tests;
mod health;
mod publish_error;
pub mod publisher;
#[cfg(test)]
mod publisher_tests;
mod recent_sum;
mod renewal;
