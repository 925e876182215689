//! The worker consumes readings from Kafka and stores them in MySQL. Its ledger accounts for every
//! delivery. Redis holds the latest reading of each device.
//!
//! `pipeline` runs the main loop. `batch::buffer` decides what goes into a batch, and
//! `pipeline::flush` writes the batch. `mysql` and `redis` run the statements. `redis::repair`
//! updates Redis after a fault.

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
