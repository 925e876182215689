#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

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

/// Version of all programs, with the commit if the build named one.
pub const VERSION: &str = env!("LJWX_VERSION");
