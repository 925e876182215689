//! Measures the worker's store against the database: `bench store` at length, `bench worker` in
//! short. The run of the worker belongs to [`super::worker_run`].

mod ceiling;
mod hashes;
mod measure;
mod refused;
mod report;
mod row_by_row;
mod rows;
mod settings;
mod steady_load;
pub(super) mod worker;
mod write_method;

pub(super) use measure::measure;
pub(super) use settings::Settings;
