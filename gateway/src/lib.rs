//! The gateway: one HTTP request in, one answer out, and between them every reading confirmed by
//! Kafka.
//!
//! `routes` reads requests, `ingest` turns a body into records and waits for their delivery
//! reports, `answer` says it in the words of the route's policy. The gateway knows no MySQL and no
//! Redis.

mod admission;
mod app;
mod config;
mod http;
mod ingest;
mod metrics;
mod outcome;
mod records;
mod request_error;
mod request_span;
mod topic_check;

pub use app::App;
pub use config::Config;
pub use metrics::SERVICE;
