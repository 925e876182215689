//! Serves the public port within its bounds, and the admin port.

pub mod admin;
mod admin_guard;
mod bounds;
mod server;
mod timed;

pub use bounds::{
    ConnectionLimits, ConnectionMetrics, HEADER_TIMEOUT, IDLE_TIMEOUT, REFUSED_REASONS,
};
pub use server::{HttpServer, ServerStop};
