//! The whole pipeline at a rate, then a worker with a backlog: each figure of the plan from the load for
//! which it is true. The load belongs to [`crate::fleet`].

mod backlog;
mod measure;
mod run;
mod settings;

pub(super) use measure::measure;
pub(super) use settings::Settings;
