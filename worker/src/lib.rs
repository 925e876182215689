//! The worker: takes readings from Kafka, stores them in MySQL with a ledger that accounts for each
//! of them, and keeps Redis at the latest.
//!
//! `pipeline` holds the loop; `buffer` decides what goes into a batch, `flush` what becomes of it;
//! `store` and `redis` run the statements; `repair` brings Redis up to date after a fault.

mod app;
mod batch;
mod commands;
mod config;
mod dead_letter;
mod health;
mod metrics;
mod mysql;
mod pipeline;
mod redis;

pub use app::App;
pub use commands::audit::{AuditConfig, EXIT_UNKNOWN, audit};
pub use commands::dlq::dlq;
pub use commands::migrate::{MigrateConfig, migrate};
pub use commands::offsets::{OffsetsConfig, offsets};
pub use commands::pause::{ControlConfig, control};
pub use config::{Config, RunConfig};
pub use metrics::SERVICE;
