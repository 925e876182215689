//! Measures the alerter: its rate against only reading the topic, the time from a breach to WeChat,
//! and its use of processor and memory. Filling the topic belongs to [`super::fill_topic`].

mod ceiling;
mod latency;
mod measure;
mod memory;
mod run;
mod workload;

pub(super) use measure::{Settings, measure};
