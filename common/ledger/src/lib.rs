//! The ledger of `ingest_progress`, the connections to MySQL and Redis, and the member of a consumer
//! group that starts where the ledger stands.

pub mod device_bindings;
pub mod group;
pub mod ledger;
pub mod mysql;
pub mod platform_tables;
pub mod redis;
