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
pub mod channel;
pub mod commands;
pub mod config;
pub mod pipeline;

// Pure: rules, readings, episodes, words.
pub mod composite;
pub mod deviation;
pub mod engine;
pub mod episode;
pub mod hearing;
pub mod journal;
pub mod message;
pub mod metrics;
pub mod past;
pub mod rule;
pub mod severity;
pub mod sight;
pub mod sign;
pub mod watchlist;

// What is written, and how.
pub mod alerts;
pub mod columns;
pub mod device_message;
pub mod hold;
pub mod operators;
pub mod outbox;
pub mod portions;
pub mod recipients;
pub mod refusals;
pub mod report;
pub mod rules;
pub mod sender;
pub mod silences;
pub mod state;
pub mod store;
pub mod stretch;
pub mod suppressed;
pub mod watch;
pub mod wechat;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod test_support;

pub use app::App;
pub use config::Config;
pub use metrics::SERVICE;
