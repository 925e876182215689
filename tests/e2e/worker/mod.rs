//! Storing: rows, Redis, dead letters, and the commands of the worker.

pub mod account;
pub mod audit;
pub mod bindings;
pub mod dlq;
pub mod merges;
pub mod modes;
pub mod months;
pub mod offsets;
pub mod pipeline;
pub mod records;
pub mod redis;
pub mod sharing;
pub mod tables;
pub mod transactions;
pub mod where_is;
