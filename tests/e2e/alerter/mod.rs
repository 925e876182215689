//! Alerts and their notifications.

pub mod alerts;
pub mod cases;
pub mod dead_letters;
pub mod faults;
pub mod no_data;
pub mod operators;
pub mod outbox;
pub mod people;
pub mod replicas;
pub mod routing;
pub mod rules;
pub mod sender;
pub mod silences;
pub mod templates;
pub mod waiting;
