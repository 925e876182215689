//! Measures the alerter: its rate against only reading the topic, the time from a breach to WeChat,
//! its use of processor and memory, and rare peaks. Filling the topic belongs to
//! [`super::fill_topic`].

mod assigned;
mod ceiling;
mod latency;
mod measure;
mod memory;
pub(super) mod messages;
mod missing;
mod owed;
pub(super) mod peaks;
mod resting;
mod run;
mod steady_load;
mod workload;

pub(super) use measure::{Settings, measure};
