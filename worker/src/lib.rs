//! The worker consumes readings from Kafka and stores them in MySQL. Its ledger accounts for every
//! delivery. Redis holds the latest reading of each device.
//!
//! `pipeline` runs the main loop. `batch::buffer` decides what goes into a batch, and
//! `pipeline::flush` writes the batch. `mysql` and `redis` run the statements. `redis::repair`
//! updates Redis after a fault.

mod app;
mod batch;
mod canary;
mod commands;
mod config;
mod dead_letter;
mod health;
mod metrics;
mod mysql;
mod pipeline;
mod redis;

pub use app::App;
pub use commands::adopt::{AdoptArgs, adopt};
pub use commands::audit::{AuditArgs, EXIT_UNKNOWN, audit};
pub use commands::dlq::dlq;
pub use commands::migrate::{MigrateArgs, migrate};
pub use commands::offsets::{OffsetsArgs, offsets};
pub use commands::pause::{PauseArgs, set_paused};
pub use commands::privacy::{EraseArgs, SubjectArgs, erase, export};
pub use commands::status::{StatusArgs, status};
pub use commands::where_is::{WhereArgs, where_is};
pub use config::{Config, RunConfig};
pub use metrics::SERVICE;
