//! The alerter: its own consumer group on the readings, rules from MySQL or a file, episodes of
//! alerts, and notifications by WeChat and WeCom.
//!
//! ```text
//! source ─ deliveries ─► pipeline ─► engine (rules × state → transitions)
//!                           │
//!                           ▼ one transaction: state, alerts, outbox, ledger
//!                         MySQL ◄─ outbox ─► sender ─► WeChat, WeCom, the watch
//! ```
//!
//! Nothing here waits for the worker, and the evaluation never waits for WeChat.

pub mod app;
pub mod commands;
pub mod config;
pub mod engine;
pub mod metrics;
pub mod mysql;
pub mod notify;
pub mod pipeline;
pub mod rules;

#[cfg(test)]
mod test_support;

pub use app::App;
pub use config::Config;
pub use metrics::SERVICE;
