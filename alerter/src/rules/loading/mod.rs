//! How rules are loaded and kept: sources, versions, and the reload.

pub mod change_listener;
pub mod last_good;
pub mod reload;
pub mod shrinkage;
pub mod snapshot;
pub mod source;
pub mod source_file;
pub mod versions;
