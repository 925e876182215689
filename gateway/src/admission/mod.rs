//! Admission of requests: whether Kafka acknowledges, the bytes held at a time, the pace of a body, the
//! rate of rejects and of recorded spans, and the bounds of the public port.

pub mod byte_budget;
pub mod kafka_gate;
pub mod limits;
pub mod pace;
mod probing;
pub mod shared_bucket;
pub mod token_bucket;
