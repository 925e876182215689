//! Judges whether the alerter works: whether readings still arrive, and whether an alert that arises
//! now would reach people.
//!
//! ```text
//! device_records ─► readings_flow ─┐
//! MySQL, outbox, accounts, loops ──┼─► monitor ─► operator events
//!                                  └─► alert_path ─► beats ─► an outside monitor
//! ```

pub mod alert_path;
pub mod beats;
pub mod device_records;
pub mod monitor;
pub mod readings_flow;
