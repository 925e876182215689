//! Measures the gateway in turn with a server that only publishes.

pub(super) mod ceiling;
mod measure;

pub(super) use measure::{bodies, closed_loop, measure, run};
