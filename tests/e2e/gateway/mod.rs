//! The gateway as its clients see it.

pub mod acknowledgement;
pub mod cases;
pub mod config;
pub mod limits;
pub mod public_port;
pub mod rejects;
pub mod stop;
pub mod topics;
pub mod traces;
