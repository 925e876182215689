//! `reading.v1`: a reading as a Kafka record's value. `reading.v1.schema.json` beside this file is
//! the same, for other languages; a test holds the two together.

use std::str::FromStr;

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

use crate::reading::{DeviceSn, Documents, Ids, Reading, UploadMethod, Vitals, Warning, wall_text};

/// Value of the `schema` header.
pub const SCHEMA: &str = "reading.v1";

/// A record's value that is no `reading.v1`.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or a field is missing or of another type.
    #[error("not a {SCHEMA}: {0}")]
    Json(#[from] serde_json::Error),
    /// A field holds what no reading may hold.
    #[error("not a {SCHEMA}: {0} is out of range")]
    Field(&'static str),
}

#[derive(Serialize)]
struct Encoded<'a> {
    device_sn: &'a DeviceSn,
    timestamp: String,
    epoch_ms: i64,
    received_at: i64,
    #[serde(flatten)]
    ids: Ids,
    upload_method: UploadMethod,
    #[serde(flatten)]
    vitals: &'a Vitals,
    #[serde(flatten)]
    documents: &'a Documents,
    #[serde(skip_serializing_if = "<[Warning]>::is_empty")]
    warnings: &'a [Warning],
}

/// The record value of a reading.
pub fn encode(reading: &Reading) -> Vec<u8> {
    let encoded = Encoded {
        device_sn: &reading.device_sn,
        timestamp: wall_text(reading.timestamp),
        epoch_ms: reading.epoch_ms,
        received_at: reading.received_at_ms,
        ids: reading.ids,
        upload_method: reading.upload_method,
        vitals: &reading.vitals,
        documents: &reading.documents,
        warnings: &reading.warnings,
    };
    let mut value = Vec::with_capacity(VALUE_BYTES_EXPECTED);
    // Writing plain structs to memory cannot fail: no map keys but strings, no I/O.
    if let Err(error) = serde_json::to_writer(&mut value, &encoded) {
        unreachable!("a reading always serialises: {error}");
    }
    value
}

/// A watch's reading without documents takes about 450 bytes.
const VALUE_BYTES_EXPECTED: usize = 512;

/// The same fields once more, flat: serde buffers flattened fields on the way in, and this is the
/// hottest line of every consumer.
#[derive(Deserialize)]
struct Decoded<'a> {
    #[serde(borrow)]
    device_sn: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    timestamp: std::borrow::Cow<'a, str>,
    epoch_ms: i64,
    received_at: i64,
    customer_id: Option<i64>,
    org_id: Option<i64>,
    user_id: Option<i64>,
    upload_method: UploadMethod,
    heart_rate: Option<i32>,
    blood_oxygen: Option<i32>,
    temperature: Option<f64>,
    pressure_high: Option<i32>,
    pressure_low: Option<i32>,
    stress: Option<i32>,
    step: Option<i32>,
    distance: Option<f64>,
    calorie: Option<f64>,
    latitude: Option<f64>,
    longitude: Option<f64>,
    altitude: Option<f64>,
    sleep: Option<f64>,
    sleep_data: Option<crate::reading::Document>,
    exercise_daily_data: Option<crate::reading::Document>,
    exercise_week_data: Option<crate::reading::Document>,
    scientific_sleep_data: Option<crate::reading::Document>,
    workout_data: Option<crate::reading::Document>,
    #[serde(default)]
    warnings: Vec<Warning>,
}

/// The reading of a record's value.
pub fn decode(value: &[u8]) -> Result<Reading, DecodeError> {
    let decoded: Decoded<'_> = serde_json::from_slice(value)?;
    let reading = Reading {
        device_sn: DeviceSn::new(&decoded.device_sn).ok_or(DecodeError::Field("device_sn"))?,
        timestamp: wall(&decoded.timestamp).ok_or(DecodeError::Field("timestamp"))?,
        epoch_ms: decoded.epoch_ms,
        received_at_ms: decoded.received_at,
        ids: Ids {
            customer_id: decoded.customer_id,
            org_id: decoded.org_id,
            user_id: decoded.user_id,
        },
        upload_method: decoded.upload_method,
        vitals: Vitals {
            heart_rate: decoded.heart_rate,
            blood_oxygen: decoded.blood_oxygen,
            temperature: decoded.temperature,
            pressure_high: decoded.pressure_high,
            pressure_low: decoded.pressure_low,
            stress: decoded.stress,
            step: decoded.step,
            distance: decoded.distance,
            calorie: decoded.calorie,
            latitude: decoded.latitude,
            longitude: decoded.longitude,
            altitude: decoded.altitude,
            sleep: decoded.sleep,
        },
        documents: Documents {
            sleep_data: decoded.sleep_data,
            exercise_daily_data: decoded.exercise_daily_data,
            exercise_week_data: decoded.exercise_week_data,
            scientific_sleep_data: decoded.scientific_sleep_data,
            workout_data: decoded.workout_data,
        },
        warnings: decoded.warnings,
    };
    match reading.vitals.first_out_of_range() {
        Some(field) => Err(DecodeError::Field(field)),
        None => Ok(reading),
    }
}

fn wall(text: &str) -> Option<DateTime> {
    (text.len() == 19).then(|| DateTime::from_str(text).ok()).flatten()
}
