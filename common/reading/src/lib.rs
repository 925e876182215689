#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

pub mod content_encoding;
mod device;
mod document;
pub mod envelope;
mod json_object;
mod number;
mod parse;
mod reading;
mod rejection;
#[cfg(test)]
mod request_schema_tests;
mod time;
pub mod wire;

pub use device::{CANARY_SN, DEVICE_SN_BYTES_MAX, DeviceSn, Ids, UploadMethod};
pub use document::NESTED_BYTES_MAX;
pub use json_object::{JsonObject, Scalar};
pub use number::NumberField;
pub use parse::{ParseContext, ids_of, names_a_device};
pub use reading::{Document, Documents, Reading, Vitals};
pub use rejection::{
    FIELD_DROPPED, Rejection, RejectionCode, WARNING_RAW_BYTES_MAX, Warning, WarningCode,
};
pub use time::{AHEAD_OF_CLOCK_MS, TIMESTAMP_AHEAD_MS_MAX, offset_text, wall_text, wall_text_of};
