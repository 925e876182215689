//! Encodes and decodes `reading.v1`, a reading as the value of a Kafka record.
//!
//! `reading.v1.schema.json` in the folder of the crate describes the same for other languages. A
//! test holds the two together.
//!
//! A gateway of a later version may run beside consumers of this one. The decoder therefore ignores
//! a field that it does not know, and takes any word for an upload method or a warning's code.

use std::borrow::Cow;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

use crate::device::{DeviceSn, Ids, UploadMethod};
use crate::reading::{Document, Documents, Reading, Vitals};
use crate::rejection::Warning;
use crate::time::wall_text;

/// Value of the `schema` header.
pub const SCHEMA: &str = "reading.v1";

/// The reason why a record's value is not a `reading.v1`. Its text holds no value of the record.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The value is not JSON, or a field is missing or has another type.
    #[error("not a {SCHEMA}: {0}")]
    Json(String),
    /// A field holds a value that no reading may hold.
    #[error("not a {SCHEMA}: {0} is out of range")]
    Field(&'static str),
    /// The record has no value.
    #[error("not a {SCHEMA}: the record is a tombstone, without a value")]
    Tombstone,
}

#[derive(Serialize)]
struct EncodedReading<'a> {
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

/// Encodes a reading as the value of a record.
pub fn encode(reading: &Reading) -> Vec<u8> {
    let encoded = EncodedReading {
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
    // Serialising plain structs to memory cannot fail: all map keys are strings, and there is no
    // I/O.
    if let Err(error) = serde_json::to_writer(&mut value, &encoded) {
        unreachable!("a reading always serialises: {error}");
    }
    value
}

/// Capacity for one value: a reading of a watch without documents takes about 450 bytes.
const VALUE_BYTES_EXPECTED: usize = 512;

/// The same fields as `EncodedReading`, not flattened: serde buffers flattened fields when it reads them.
/// Decoding is the hottest path of every consumer.
#[derive(Deserialize)]
struct DecodedReading<'a> {
    #[serde(borrow)]
    device_sn: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    epoch_ms: i64,
    received_at: i64,
    customer_id: Option<i64>,
    org_id: Option<i64>,
    user_id: Option<i64>,
    #[serde(borrow)]
    upload_method: Cow<'a, str>,
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
    sleep_data: Option<Document>,
    exercise_daily_data: Option<Document>,
    exercise_week_data: Option<Document>,
    scientific_sleep_data: Option<Document>,
    workout_data: Option<Document>,
    #[serde(default)]
    warnings: Vec<Warning>,
}

/// Decodes the value of a record. `None` is the value of a tombstone.
pub fn decode(value: Option<&[u8]>) -> Result<Reading, DecodeError> {
    let value = value.ok_or(DecodeError::Tombstone)?;
    let decoded: DecodedReading<'_> = serde_json::from_slice(value).map_err(without_value)?;
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
        upload_method: UploadMethod::from_word(&decoded.upload_method).unwrap_or_default(),
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
    match first_refused(&reading) {
        Some(field) => Err(DecodeError::Field(field)),
        None => Ok(reading),
    }
}

/// Returns the name of the first field with a value that no reading may hold.
fn first_refused(reading: &Reading) -> Option<&'static str> {
    let Reading { epoch_ms, received_at_ms, ids, vitals, documents, .. } = reading;
    let moment = |ms: i64| Timestamp::from_millisecond(ms).is_ok();
    let id = |id: Option<i64>| id.is_none_or(|id| id > 0);
    let document = |document: &Option<Document>| {
        document.as_ref().is_none_or(|document| document.as_str().starts_with(['{', '[']))
    };
    let checked = [
        ("epoch_ms", moment(*epoch_ms)),
        ("received_at", moment(*received_at_ms)),
        ("customer_id", id(ids.customer_id)),
        ("org_id", id(ids.org_id)),
        ("user_id", id(ids.user_id)),
        ("sleep_data", document(&documents.sleep_data)),
        ("exercise_daily_data", document(&documents.exercise_daily_data)),
        ("exercise_week_data", document(&documents.exercise_week_data)),
        ("scientific_sleep_data", document(&documents.scientific_sleep_data)),
        ("workout_data", document(&documents.workout_data)),
    ];
    let refused = checked.into_iter().find(|(_, accepted)| !accepted).map(|(field, _)| field);
    refused.or_else(|| vitals.first_out_of_range())
}

/// Reads `yyyy-MM-dd HH:mm:ss` and no other form.
fn wall(text: &str) -> Option<DateTime> {
    const FORM: &[u8] = b"0000-00-00 00:00:00";
    let has_form = text.len() == FORM.len()
        && text.bytes().zip(FORM).all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            separator => byte == *separator,
        });
    has_form.then(|| DateTime::from_str(text).ok()).flatten()
}

/// Words an error of serde without the value that it quotes: `invalid type: string "84", expected
/// i32 at line 1 column 30`. The value is a patient's, or a stranger's.
fn without_value(error: serde_json::Error) -> DecodeError {
    const EXPECTED: &str = ", expected ";
    let text = error.to_string();
    // A value may hold the words, too. The last are serde's.
    DecodeError::Json(match text.rfind(EXPECTED) {
        Some(at) => text[at + ", ".len()..].to_owned(),
        None => text,
    })
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
