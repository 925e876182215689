//! Watches the settings of the topics and names each unsafe one.
//!
//! `observe` queries Kafka, `findings` judges one topic, `checks` decides what follows from the
//! answers, `watch` repeats this. Leaves the consequence of a refused topic to the service.

mod checks;
#[cfg(test)]
mod checks_tests;
pub mod findings;
#[cfg(test)]
mod findings_tests;
mod observe;
mod settings;
pub mod state;
pub mod watch;
