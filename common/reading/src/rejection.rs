//! Names the faults of an item: a rejection costs the item, a warning costs one field.

use serde::{Deserialize, Serialize};

/// Most bytes of a field's original text that a warning carries.
pub const WARNING_RAW_BYTES_MAX: usize = 1024;

/// Code of a reject that keeps the full item of an accepted reading with a cut field.
pub const FIELD_DROPPED: &str = "field_dropped";

/// The reason why an item cannot become a reading. The words are stable: answers, metric labels and
/// record headers use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectionCode {
    /// The body is not JSON.
    MalformedBody,
    /// The body holds more items than one body may.
    TooManyReadings,
    /// `data` inside `data`, at more levels than are accepted.
    TooDeep,
    /// The item is not a JSON object.
    InvalidItem,
    /// No serial number.
    MissingDeviceSn,
    /// A serial number that is too long or holds anything but visible ASCII.
    InvalidDeviceSn,
    /// A time that cannot be parsed.
    InvalidTimestamp,
    /// A time before 2000 or more than 24 hours ahead.
    TimestampOutOfRange,
}

impl RejectionCode {
    /// All codes.
    pub const ALL: [Self; 8] = [
        Self::MalformedBody,
        Self::TooManyReadings,
        Self::TooDeep,
        Self::InvalidItem,
        Self::MissingDeviceSn,
        Self::InvalidDeviceSn,
        Self::InvalidTimestamp,
        Self::TimestampOutOfRange,
    ];

    /// Returns the stable word.
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

/// The statement that an item cannot become a reading, with the remedy for the sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// The reason as a stable word.
    pub code: RejectionCode,
    /// The canonical name of the field at fault.
    pub field: Option<&'static str>,
    /// The reason as text for the sender, in Chinese, with the field and the remedy.
    pub message: String,
    /// The serial number, if it could be read.
    pub device_sn: Option<String>,
}

impl Rejection {
    /// Rejects a whole item or body.
    pub fn new(code: RejectionCode, message: impl Into<String>) -> Self {
        Self { code, field: None, message: message.into(), device_sn: None }
    }

    /// Rejects an item because of one field.
    pub fn of_field(code: RejectionCode, field: &'static str, message: impl Into<String>) -> Self {
        Self { code, field: Some(field), message: message.into(), device_sn: None }
    }
}

/// The reason why a field was left out or changed, or has a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningCode {
    /// The field could not be read.
    Invalid,
    /// The field lies outside its range.
    OutOfRange,
    /// The field is longer than allowed.
    TooLarge,
    /// The field was missing, and another value took its place.
    Missing,
    /// The device's clock runs ahead.
    AheadOfClock,
    /// A code of a later version, read from a record. This version never publishes the code.
    #[serde(other)]
    Unknown,
}

impl WarningCode {
    /// All codes that this version publishes.
    pub const ALL: [Self; 5] =
        [Self::Invalid, Self::OutOfRange, Self::TooLarge, Self::Missing, Self::AheadOfClock];

    /// Returns the stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::OutOfRange => "out_of_range",
            Self::TooLarge => "too_large",
            Self::Missing => "missing",
            Self::AheadOfClock => "ahead_of_clock",
            Self::Unknown => "unknown",
        }
    }
}

/// A fault in one field of an accepted reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Canonical name of the field.
    pub field: Box<str>,
    /// The reason as a stable word.
    pub code: WarningCode,
    /// The field as received, cut to [`WARNING_RAW_BYTES_MAX`] bytes.
    pub raw: Box<str>,
    /// Whether `raw` was cut, so that the full text has to be kept elsewhere.
    #[serde(skip)]
    pub cut: bool,
}

impl Warning {
    /// Creates a warning with as much of `raw` as allowed.
    pub fn new(field: &str, code: WarningCode, raw: &str) -> Self {
        let end = raw.floor_char_boundary(WARNING_RAW_BYTES_MAX);
        Self { field: field.into(), code, raw: raw[..end].into(), cut: end < raw.len() }
    }
}
