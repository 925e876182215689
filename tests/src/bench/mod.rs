//! Measures the plan's figures in one run of the whole pipeline, and ratios against ceilings
//! measured in the same run, because absolute figures belong to their machine.
//!
//! The servers and services belong to [`crate::stack`], the load of the pipeline to
//! [`crate::fleet`].
#![expect(clippy::print_stdout, reason = "printing figures is what a benchmark is for")]

mod alerter;
mod fill_topic;
mod gateway;
mod histogram;
mod pipeline;
mod run;
mod scaling;
mod series;
mod store;
mod table;
mod takeover;
mod telemetry;
mod usage;
mod worker_run;
mod workload;

pub use run::{Arguments, run};
pub(crate) use series::{database, today};
pub(crate) use table::machine;
