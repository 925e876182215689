#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

pub mod device_bindings;
pub mod group;
pub mod ledger;
pub mod metrics;
pub mod mysql;
pub mod platform_tables;
pub mod redis;
