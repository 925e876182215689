//! Admission of requests: the bytes held at a time, the pace of a body, and the bounds of the
//! public port.

pub mod byte_budget;
pub mod limits;
pub mod pace;
