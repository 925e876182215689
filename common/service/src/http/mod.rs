//! Serves the public port within its bounds, and the admin port.

pub mod admin;
mod bounds;
mod server;
mod timed;

pub use bounds::{Bounds, HEADER_TIMEOUT, IDLE_TIMEOUT, Names, REFUSED_REASONS};
pub use server::{Server, Stop};
