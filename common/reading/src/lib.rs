//! A reading, how it is parsed from a device's JSON, and how it travels in Kafka.
//!
//! Pure: no I/O, no clock, no async. [`Reading::parse`] is the only way in from a device's JSON,
//! [`wire`] the only way in from Kafka; both refuse what is invalid, so nothing below them checks a
//! value again.

pub mod content_encoding;
mod document;
pub mod envelope;
mod json_object;
mod number;
mod parse;
mod reading;
mod rejection;
mod time;
pub mod wire;

pub use document::NESTED_BYTES_MAX;
pub use json_object::{Item, Scalar};
pub use number::NumberField;
pub use parse::{Intake, ids_of, names_a_device};
pub use reading::*;
pub use rejection::{Rejection, RejectionCode, WARNING_RAW_BYTES_MAX, Warning, WarningCode};
pub use time::{AHEAD_OF_CLOCK_MS, TIMESTAMP_AHEAD_MS_MAX, offset_text, wall_text};
