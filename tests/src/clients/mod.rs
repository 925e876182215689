//! Queries the servers for the tests.

pub mod http;
pub mod jaeger;
pub mod kafka;
pub mod kafka_acl;
pub mod mysql;
pub mod prometheus;
pub mod redis;
pub mod transactions;
