//! Alerts and their notifications.

pub mod alerts;
pub mod cases;
pub mod crash;
pub mod dead_letters;
pub mod faults;
pub mod no_data;
pub mod one_message;
pub mod operators;
pub mod outbox;
pub mod people;
pub mod refused;
pub mod rerouted;
pub mod routed_again;
pub mod rules;
pub mod sender;
pub mod silences;
pub mod templates;
pub mod waiting;
