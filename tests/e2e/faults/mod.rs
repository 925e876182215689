//! Faults of servers, links and processes.

pub mod commits;
pub mod database;
pub mod disk;
pub mod half_away;
pub mod lost_parts;
pub mod partitions;
pub mod rebalance;
pub mod remedies;
pub mod sentinel;
pub mod servers_lost;
pub mod sigterm;
pub mod silent;
pub mod takeover;
pub mod tls;
pub mod verdict;
