//! The worker: takes readings from Kafka, stores them in MySQL with a ledger that accounts for each
//! of them, and keeps Redis at the latest.
//!
//! `pipeline` holds the loop; `buffer` decides what goes into a batch, `flush` what becomes of it;
//! `store` and `redis` run the statements.

mod app;
mod batch;
mod breaker;
mod buffer;
mod config;
mod daily;
mod errors;
mod figures;
mod flush;
mod health;
mod isolate;
mod letters;
mod metrics;
mod migrate;
mod partitions;
mod pipeline;
mod redis;
mod row;
mod spans;
mod sql;
mod statements;
mod store;
mod watch;

pub use app::App;
pub use config::{Config, MigrateConfig, RunConfig};
pub use migrate::migrate;
