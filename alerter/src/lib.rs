//! The alerter: consumes readings in a group of its own, and evaluates rules from MySQL or a file.
//! Records episodes of alerts, and notifies by WeChat and WeCom.
//!
//! ```text
//! consumer ─ deliveries ─► pipeline ─► engine (rules × state → transitions)
//!                             │
//!                             ▼ one transaction: state, alerts, outbox, ledger
//!                           MySQL ◄─ outbox ─► sender ─► WeChat, WeCom, the watch
//! ```
//!
//! The alerter never waits for the worker, and the evaluation never waits for WeChat.

pub mod app;
pub mod commands;
pub mod config;
pub mod engine;
pub mod health;
pub mod metrics;
pub mod mysql;
pub mod notify;
pub mod pipeline;
pub mod rules;

#[cfg(test)]
mod test_support;

#[cfg(test)]
mod worked_cases;

pub use app::App;
pub use config::Config;
pub use metrics::SERVICE;
