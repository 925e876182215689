//! One measurement of one device at one time, valid by construction.
//!
//! `Reading::parse` is the only way in from a device's JSON, and `wire` the only way in from Kafka.
//! Both reject invalid values, so no other code checks a value again.

use std::sync::Arc;

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::device::{DeviceSn, Ids, UploadMethod};
use crate::rejection::Warning;
use crate::time::AHEAD_OF_CLOCK_MS;

/// The numbers of a reading. Each is absent or within its range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Vitals {
    /// Beats per minute, 1–300.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heart_rate: Option<i32>,
    /// Percent, 1–100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blood_oxygen: Option<i32>,
    /// Degrees Celsius, 20–45, two decimals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Systolic pressure, mmHg, 20–300.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure_high: Option<i32>,
    /// Diastolic pressure, mmHg, 10–250.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure_low: Option<i32>,
    /// Score, 1–100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stress: Option<i32>,
    /// Steps of the day, 0–1,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<i32>,
    /// Metres of the day, 0–1,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distance: Option<f64>,
    /// Small calories of the day, 0–100,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calorie: Option<f64>,
    /// Degrees, −90–90.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latitude: Option<f64>,
    /// Degrees, −180–180.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longitude: Option<f64>,
    /// Metres, −500–20,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub altitude: Option<f64>,
    /// Hours of sleep, more than 0, two decimals. Derived from `sleep_data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleep: Option<f64>,
}

/// A JSON document of a reading, kept as the received text. The text parses and is never empty.
/// Clones share the text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Document(pub(crate) Arc<RawValue>);

impl Document {
    /// Returns the JSON text of the document.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// The daily and weekly documents of a reading.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Documents {
    /// Sleep history; stored by day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleep_data: Option<Document>,
    /// Exercise of the day; stored by day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exercise_daily_data: Option<Document>,
    /// Exercise of the week; stored by week.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exercise_week_data: Option<Document>,
    /// Sleep stages; stored by day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scientific_sleep_data: Option<Document>,
    /// Workouts; stored by day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workout_data: Option<Document>,
}

/// One measurement of one device at one time. Its identity is `(device_sn, timestamp)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    pub(crate) device_sn: DeviceSn,
    pub(crate) timestamp: DateTime,
    pub(crate) epoch_ms: i64,
    pub(crate) received_at_ms: i64,
    pub(crate) ids: Ids,
    pub(crate) upload_method: UploadMethod,
    pub(crate) vitals: Vitals,
    pub(crate) documents: Documents,
    pub(crate) warnings: Vec<Warning>,
}

impl Reading {
    /// Returns the device's serial number.
    pub fn device_sn(&self) -> &DeviceSn {
        &self.device_sn
    }

    /// Returns the time of measurement on the wall clock of the configured zone, in whole seconds.
    pub fn timestamp(&self) -> DateTime {
        self.timestamp
    }

    /// Returns the time of measurement in milliseconds since 1970, UTC.
    pub fn epoch_ms(&self) -> i64 {
        self.epoch_ms
    }

    /// Returns the receipt at the gateway in milliseconds since 1970, UTC.
    pub fn received_at_ms(&self) -> i64 {
        self.received_at_ms
    }

    /// Returns tenant, organisation and user, as far as the device sent them.
    pub fn ids(&self) -> Ids {
        self.ids
    }

    /// Returns the way of upload.
    pub fn upload_method(&self) -> UploadMethod {
        self.upload_method
    }

    /// Returns the measured numbers.
    pub fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// Returns the JSON documents.
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    /// Returns the warnings: fields that were left out or changed, with the reason.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Whether the device's clock runs ahead. Such a reading is stored but moves no guard, no Redis
    /// hash and no alert: one fast clock could silence a patient for a day.
    pub fn ahead_of_clock(&self) -> bool {
        self.epoch_ms - self.received_at_ms > AHEAD_OF_CLOCK_MS
    }

    /// Whether `other` says nothing that this reading does not say: the same identity, content and
    /// warnings. Receipts are not compared. The rest of a cut text may differ, so a reading with a
    /// cut warning is never the same.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.device_sn == other.device_sn
            && self.timestamp == other.timestamp
            && self.ids == other.ids
            && self.upload_method == other.upload_method
            && self.vitals == other.vitals
            && self.documents == other.documents
            && self.warnings == other.warnings
            && !other.warnings.iter().any(|warning| warning.cut)
    }
}
