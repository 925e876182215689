//! The worker: takes readings from Kafka, stores them in MySQL with a ledger that accounts for each
//! of them, and keeps Redis at the latest.
//!
//! `pipeline` holds the loop; `buffer` decides what goes into a batch, `flush` what becomes of it;
//! `store` and `redis` run the statements; `repair` brings Redis up to date after a fault.

mod accept_topic;
mod adaptive;
mod app;
mod audit;
mod batch;
mod bindings;
mod breaker;
mod buckets;
mod buffer;
mod config;
mod control;
mod daily;
mod dlq;
mod existing;
mod figures;
mod flush;
mod health;
mod isolate;
mod letters;
mod letters_topic;
mod metrics;
mod migrate;
mod newest;
mod offsets;
mod packet;
mod partitions;
mod pipeline;
mod redis;
mod repair;
mod row;
mod shown;
mod spans;
mod statements;
mod store;
#[cfg(test)]
mod test_support;
mod watch;

pub use app::App;
pub use audit::{AuditConfig, EXIT_UNKNOWN, audit};
pub use config::{Config, MigrateConfig, RunConfig};
pub use control::{ControlConfig, control};
pub use dlq::dlq;
pub use metrics::SERVICE;
pub use migrate::migrate;
pub use offsets::{OffsetsConfig, offsets};
