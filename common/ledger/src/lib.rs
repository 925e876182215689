#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

pub mod dead_letter_headers;
pub mod device_bindings;
pub mod group;
pub mod ledger;
pub mod metrics;
pub mod mysql;
pub mod platform_rows;
pub mod platform_tables;
pub mod redis;
