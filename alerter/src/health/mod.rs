//! Judges whether the alerter works: whether readings still arrive, and whether an alert that arises
//! now would reach people.
//!
//! ```text
//! Kafka's ends ─► readings_flow ───┐
//! MySQL, outbox, accounts, loops ──┼─► monitor ─► operator events
//!                                  └─► alert_path ─► beats ─► an outside monitor
//! ```

pub mod alert_path;
pub mod beats;
pub mod monitor;
pub mod readings_flow;
