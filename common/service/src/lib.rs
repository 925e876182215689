//! What every process has: settings, start and stop, HTTP, logs, metrics, spans, text output, and
//! the connection to Kafka.

pub mod backoff;
pub mod config;
pub mod heartbeat;
pub mod http;
pub mod kafka;
pub mod lifecycle;
pub mod link;
pub mod metrics;
pub mod telemetry;
pub mod text;
