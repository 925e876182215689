//! A member of a consumer group that starts at the ledger's position, and the lag of its group.

mod assignment;
mod claim_check;
mod claims;
pub mod consumer;
pub mod dead_letter_topic;
pub mod delivery;
mod fetch_position;
pub mod lag;
pub mod monitor;
mod out_of_range;
mod poll_thread;
mod rebalance;
pub mod settings;
pub mod topic_check;
