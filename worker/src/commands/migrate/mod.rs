//! `worker migrate`: creates tables, their months, and topics, and accepts a changed topic.

mod accept_topic;
mod alert_state;
mod args;
mod existing_tables;
mod platform_tables;
mod run;

pub use args::MigrateArgs;
pub use run::migrate;
