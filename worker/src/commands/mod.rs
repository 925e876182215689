//! The commands of the worker, beside the service.

pub mod adopt;
pub mod audit;
pub mod dlq;
pub mod migrate;
pub mod offsets;
mod part;
pub mod pause;
pub mod privacy;
pub mod status;
pub mod where_is;
