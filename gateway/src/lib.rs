//! The gateway: one HTTP request in, one answer out, and between them every reading confirmed by
//! Kafka.
//!
//! `routes` reads requests, `ingest` turns a body into records and waits for their delivery
//! reports, `answer` says it in the words of the route's policy. The gateway knows no MySQL and no
//! Redis.

mod answer;
mod app;
mod body;
mod budget;
mod config;
mod headers;
mod ingest;
mod metrics;
mod outcome;
mod pace;
mod protection;
mod records;
mod refusal;
mod routes;
mod span;
mod topics;

pub use app::App;
pub use config::Config;
pub use metrics::SERVICE;
