//! The drills of the runbook: a server is lost, a release is replaced. Each test runs the blocks of
//! its section in their order, and ends with a clean audit.

mod drill;
mod kafka_lost;
mod mysql_restored;
mod redis_lost;
mod rolling_update;
