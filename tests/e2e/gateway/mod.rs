//! The gateway as its clients see it.

pub mod acknowledgement;
pub mod cases;
pub mod clients;
pub mod config;
pub mod conformance;
pub mod documents;
pub mod dry_run;
pub mod limits;
pub mod old_address;
pub mod public_port;
pub mod rejects;
pub mod stop;
pub mod topics;
pub mod traces;
