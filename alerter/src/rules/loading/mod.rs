//! Loads rules from their source, keeps their last good versions, and reloads them.

pub mod change_listener;
pub mod last_good;
pub mod reload;
pub mod shrinkage;
pub mod snapshot;
pub mod source;
pub mod versions;
