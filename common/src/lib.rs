//! What gateway, worker and alerter share: the reading and its forms (pure), and the adapters to
//! Kafka, MySQL, Redis and OpenTelemetry that more than one of them uses.

// Pure: time comes as an argument, nothing is read or written.
pub mod backoff;
pub mod encoding;
pub mod lag;
pub mod reading;
pub mod shapes;
pub mod table;
pub mod wire;

// Settings, start and stop.
pub mod admin;
pub mod config;
pub mod http;
pub mod lifecycle;
pub mod metrics;
pub mod pulse;
pub mod telemetry;
pub mod trace;

// Adapters.
pub mod bindings;
pub mod dead_letter;
pub mod errors;
pub mod group_watch;
pub mod kafka;
pub mod ledger;
pub mod link;
pub mod mysql;
pub mod publisher;
pub mod redis;
pub mod replay;
pub mod source;
pub mod sql;
pub mod topic;
pub mod topic_identity;
