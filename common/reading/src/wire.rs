//! Encodes and decodes `reading.v1`, a reading as the value of a Kafka record.
//!
//! `reading.v1.schema.json` in the folder of the crate describes the same for other languages. A
//! test holds the two together.

use std::str::FromStr;

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

use crate::device::{DeviceSn, Ids, UploadMethod};
use crate::reading::{Document, Documents, Reading, Vitals};
use crate::rejection::Warning;
use crate::time::wall_text;

/// Value of the `schema` header.
pub const SCHEMA: &str = "reading.v1";

/// The reason why a record's value is not a `reading.v1`.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The value is not JSON, or a field is missing or has another type.
    #[error("not a {SCHEMA}: {0}")]
    Json(#[from] serde_json::Error),
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
    let decoded: DecodedReading<'_> = serde_json::from_slice(value)?;
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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;
    use serde_json::value::RawValue;
    use serde_json::{Value, json};

    use super::*;
    use crate::ParseContext;

    const SCHEMA_TEXT: &str = include_str!("../reading.v1.schema.json");

    fn schema() -> Value {
        serde_json::from_str(SCHEMA_TEXT).unwrap()
    }

    fn parse(item: &Value) -> Reading {
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let intake = ParseContext {
            zone: &zone,
            received_at: Timestamp::from_second(1_756_800_600).unwrap(),
            index: 0,
            ids: Ids::default(),
        };
        let raw = RawValue::from_string(item.to_string()).unwrap();
        Reading::parse(&raw, &intake).unwrap()
    }

    fn full() -> Value {
        json!({
            "deviceSn": "ABCDE25100000001", "timestamp": "2025-09-02 16:09:00",
            "customerId": "1900000000000000001", "orgId": 1900000000000000002_i64, "userId": "3",
            "heart_rate": 84, "blood_oxygen": 97, "body_temperature": "36.5", "gxy": 125, "dxy": 86,
            "stress": 5, "step": 0, "distance": "820.0", "calorie": "41230.0", "latitude": "22.5",
            "longitude": "114.0", "altitude": "12", "upload_method": "4g",
            "sleepData": {"code": 0, "data": [{"startTimeStamp": 1, "endTimeStamp": 3601}]},
            "exerciseDailyData": "{\"data\":[1]}", "exerciseWeekData": "{\"data\":[1]}",
            "scientificSleepData": "{\"data\":[1]}", "workoutData": "{\"data\":[1]}",
        })
    }

    #[test]
    fn what_is_encoded_is_what_the_schema_says_and_decodes_to_the_same() {
        let validator = jsonschema::validator_for(&schema()).unwrap();
        let broken = json!({"id": "x", "xlv": "abc", "timestamp": "2025-09-02 16:30:00"});
        for item in [full(), broken, json!({"id": "y"})] {
            let reading = parse(&item);
            let value = encode(&reading);
            let json: Value = serde_json::from_slice(&value).unwrap();
            let errors: Vec<_> = validator.iter_errors(&json).map(|e| e.to_string()).collect();
            assert!(errors.is_empty(), "{json}: {errors:?}");
            assert_eq!(decode(Some(&value)).unwrap(), reading);
        }
    }

    #[test]
    fn the_schema_names_every_field_and_no_other() {
        let encoded: Value = serde_json::from_slice(&encode(&parse(&full()))).unwrap();
        let schema = schema();
        let named: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
        let mut written: Vec<_> = encoded.as_object().unwrap().keys().cloned().collect();
        written.push("warnings".into());
        written.sort();
        assert_eq!(named, written.iter().collect::<Vec<_>>());
    }

    #[test]
    fn what_the_schema_refuses_does_not_decode() {
        let validator = jsonschema::validator_for(&schema()).unwrap();
        let valid: Value = serde_json::from_slice(&encode(&parse(&full()))).unwrap();
        for (field, wrong) in [
            ("device_sn", json!("a b")),
            ("device_sn", json!("")),
            ("timestamp", json!("yesterday")),
            ("epoch_ms", json!("1")),
            ("upload_method", json!("lora")),
            ("heart_rate", json!(301)),
            ("blood_oxygen", json!(0)),
            ("temperature", json!(50)),
            ("latitude", json!(91)),
            ("customer_id", json!("7")),
        ] {
            let mut value = valid.clone();
            value[field] = wrong;
            assert!(!validator.is_valid(&value), "the schema takes {field}={}", value[field]);
            let decoded = decode(Some(value.to_string().as_bytes()));
            assert!(decoded.is_err(), "the decoder takes {field}={}", value[field]);
        }
    }

    #[test]
    fn a_record_without_a_value_is_a_tombstone_and_an_empty_value_is_none() {
        assert!(matches!(decode(None), Err(DecodeError::Tombstone)));
        assert!(matches!(decode(Some(b"")), Err(DecodeError::Json(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(Some(&bytes));
        }

        #[test]
        fn no_value_of_a_field_makes_the_parser_panic_or_the_record_invalid(
            key in prop::sample::select(vec!["heart_rate", "timestamp", "sleepData", "customerId", "jl"]),
            text in ".{0,40}",
        ) {
            let zone = TimeZone::UTC;
            let received_at = Timestamp::from_second(1_756_800_600).unwrap();
            let intake = ParseContext { zone: &zone, received_at, index: 0, ids: Ids::default() };
            let mut item = json!({"id": "x"});
            item[key] = Value::String(text);
            let raw = RawValue::from_string(item.to_string()).unwrap();
            if let Ok(reading) = Reading::parse(&raw, &intake) {
                prop_assert_eq!(decode(Some(&encode(&reading))).unwrap(), reading);
            }
        }
    }
}
