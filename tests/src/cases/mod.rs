//! Worked examples of the gateway's answers and records, run against the real gateway. The files of
//! examples explain their members under `about`.

mod check;
mod form;
mod raw;
mod request;
mod run;
mod sequence;

pub use form::{Case, File};
pub use run::{Outcome, run, run_through};
