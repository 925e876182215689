//! The harness of the end-to-end tests, the simulated fleet and the demo.
//!
//! ```text
//! Stack (real servers)                 fleet ── History (what each client was told)
//!   └─ World (own database, topics)      │                       │
//!        └─ Service (a real process) ◄───┘                       ▼
//!             └─ MySQL, Redis, Kafka, Jaeger, FakeWechat ──► Verdict
//! ```
//!
//! The services are black boxes here: started as programs from the target directory, spoken to
//! over HTTP, judged by Kafka, MySQL, Redis, Jaeger and what WeChat received.

pub mod certificates;
pub mod launch;
pub mod own_server;
pub mod process;
pub mod stack;
pub mod tls_stack;
pub mod world;

pub mod http;
pub mod jaeger;
pub mod kafka;
pub mod metric_table;
pub mod mysql;
pub mod prometheus;
pub mod proxy;
pub mod redis;
pub mod wait;

pub mod cases;

pub mod entrance;
pub mod fake_wechat;
pub mod fleet;
pub mod history;
pub mod platform;
pub mod transactions;
pub mod verdict;
pub mod webhook;

pub mod demo;

pub mod bench;

#[cfg(test)]
mod documents;
#[cfg(test)]
mod licences;
#[cfg(test)]
mod tiers;
