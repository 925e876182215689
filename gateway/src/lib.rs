//! The gateway: one HTTP request in, one answer out, and in between a confirmation by Kafka for
//! every reading.
//!
//! `http` reads requests and answers them by the policy of their route, `items` parses a body,
//! `ingest` publishes its items and waits for their delivery reports. The gateway uses neither
//! MySQL nor Redis.

mod admission;
mod app;
mod config;
mod http;
mod ingest;
mod items;
mod metrics;
mod records;
mod request_error;
mod request_span;
mod topics;

pub use app::App;
pub use config::Config;
pub use metrics::SERVICE;
