//! What is wrong with an item: a rejection costs the item, a warning costs one field.

use serde::{Deserialize, Serialize};

/// How much of a field's original text a warning carries, in bytes.
pub const WARNING_RAW_BYTES_MAX: usize = 1024;

/// Why an item cannot become a reading. The words are stable: they stand in answers, metric labels
/// and record headers alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectionCode {
    /// The body is not JSON.
    MalformedBody,
    /// The body holds more readings than one body may.
    TooManyReadings,
    /// `data` inside `data`, more often than is accepted.
    TooDeep,
    /// The item is no JSON object.
    InvalidItem,
    /// No serial number.
    MissingDeviceSn,
    /// A serial number that is too long or holds other characters than visible ASCII.
    InvalidDeviceSn,
    /// A time that cannot be read.
    InvalidTimestamp,
    /// A time before 2000 or more than a day ahead.
    TimestampOutOfRange,
}

impl RejectionCode {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MalformedBody => "malformed_body",
            Self::TooManyReadings => "too_many_readings",
            Self::TooDeep => "too_deep",
            Self::InvalidItem => "invalid_item",
            Self::MissingDeviceSn => "missing_device_sn",
            Self::InvalidDeviceSn => "invalid_device_sn",
            Self::InvalidTimestamp => "invalid_timestamp",
            Self::TimestampOutOfRange => "timestamp_out_of_range",
        }
    }
}

/// An item that cannot become a reading, and what its sender can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// Why.
    pub code: RejectionCode,
    /// The canonical name of the field at fault.
    pub field: Option<&'static str>,
    /// Names the field and the remedy.
    pub message: String,
    /// The serial number, where it could be read.
    pub device_sn: Option<String>,
}

impl Rejection {
    /// A rejection of a whole item or body.
    pub fn new(code: RejectionCode, message: impl Into<String>) -> Self {
        Self { code, field: None, message: message.into(), device_sn: None }
    }

    /// A rejection because of one field.
    pub fn of_field(code: RejectionCode, field: &'static str, message: impl Into<String>) -> Self {
        Self { code, field: Some(field), message: message.into(), device_sn: None }
    }
}

/// Why a field was left out or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningCode {
    /// It could not be read.
    Invalid,
    /// It lies outside its range.
    OutOfRange,
    /// It is longer than a field may be.
    TooLarge,
    /// It was not there and another value took its place.
    Missing,
    /// The device's clock runs ahead.
    AheadOfClock,
}

impl WarningCode {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::OutOfRange => "out_of_range",
            Self::TooLarge => "too_large",
            Self::Missing => "missing",
            Self::AheadOfClock => "ahead_of_clock",
        }
    }
}

/// What was wrong with one field of a reading that was accepted all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Canonical name of the field.
    pub field: Box<str>,
    /// What was wrong.
    pub code: WarningCode,
    /// The field as it came, at most [`WARNING_RAW_BYTES_MAX`] bytes of it.
    pub raw: Box<str>,
    /// Whether `raw` is shorter than what came, so that the rest has to be kept elsewhere.
    #[serde(skip)]
    pub cut: bool,
}

impl Warning {
    /// A warning that carries as much of `raw` as it may.
    pub fn new(field: &str, code: WarningCode, raw: &str) -> Self {
        let end = raw.floor_char_boundary(WARNING_RAW_BYTES_MAX);
        Self { field: field.into(), code, raw: raw[..end].into(), cut: end < raw.len() }
    }
}
