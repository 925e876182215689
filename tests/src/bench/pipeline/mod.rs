//! Measures the whole pipeline at a rate, then a worker with a backlog: each figure of the plan
//! under the load for which it is meant. The load belongs to [`crate::fleet`].

mod backlog;
mod breaches;
mod measure;
mod run;
mod settings;

pub(super) use measure::measure;
pub(super) use settings::Settings;
