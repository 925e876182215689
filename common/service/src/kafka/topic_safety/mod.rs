//! Watches the settings of the topics and names each unsafe one.
//!
//! `findings` judges the `state` of a topic, `observe` queries Kafka, `watch` repeats both. Leaves the consequence of a
//! refused topic to the service.

pub mod findings;
#[cfg(test)]
mod findings_tests;
mod observe;
mod settings;
pub mod state;
pub mod watch;
