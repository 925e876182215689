use std::sync::LazyLock;

use jiff::tz::TimeZone;
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;
use crate::ParseContext;
use crate::rejection::WarningCode;

const SCHEMA_TEXT: &str = include_str!("../reading.v1.schema.json");

static VALIDATOR: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| jsonschema::validator_for(&schema()).unwrap());

fn schema() -> Value {
    serde_json::from_str(SCHEMA_TEXT).unwrap()
}

/// Returns the value of the reading's record.
fn record(reading: &Reading) -> Value {
    serde_json::from_slice(&encode(reading)).unwrap()
}

fn parse(item: &Value) -> Reading {
    let zone = TimeZone::get("Asia/Shanghai").unwrap();
    let intake = ParseContext {
        zone: &zone,
        received_at: Timestamp::from_second(1_756_800_600).unwrap(),
        index: 0,
        ids: Ids::default(),
        id_warnings: &[],
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

/// An item with a warning.
fn broken() -> Value {
    json!({"id": "x", "xlv": "abc", "timestamp": "2025-09-02 16:30:00"})
}

/// Any JSON except half surrogate pairs.
fn any_json() -> impl Strategy<Value = Value> {
    let plain = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-600..400_i64).prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(Value::from),
        ".{0,70}".prop_map(Value::from),
        "[0-9]{4}[-./][0-9]{2}[-./][0-9]{2}[ Tt][0-9]{2}:[0-9]{2}:[0-9]{2}Z?".prop_map(Value::from),
    ];
    plain.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{1,8}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Fields of an item besides device and time, each under one of its names.
const NAMES: [&str; 19] = [
    "customerId",
    "org_id",
    "userId",
    "uploadMethod",
    "xlv",
    "bloodOxygen",
    "tw",
    "gxy",
    "dxy",
    "yl",
    "steps",
    "jl",
    "calories",
    "latitude",
    "jd",
    "hb",
    "sleepData",
    "exercise_week_data",
    "workoutData",
];

/// A time in each form, and none.
fn any_time() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        Value::Null,
        json!("2025-09-02 16:09:00"),
        json!("2025-09-02T08:09:00.5Z"),
        json!(1_756_800_540),
        json!("1756800540000"),
    ])
}

/// The fields of a record, without the warnings, which no consumer stores.
fn stored_fields() -> Vec<String> {
    let fields = schema()["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    fields.into_iter().filter(|field| field != "warnings").collect()
}

#[test]
fn what_is_encoded_is_what_the_schema_says_and_decodes_to_the_same() {
    for item in [full(), broken(), json!({"id": "y"})] {
        let reading = parse(&item);
        let value = encode(&reading);
        let json: Value = serde_json::from_slice(&value).unwrap();
        let errors: Vec<_> = VALIDATOR.iter_errors(&json).map(|e| e.to_string()).collect();
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
fn the_schema_lists_the_words_of_this_version() {
    use UploadMethod::{Bluetooth, CommonEvent, Esim, Wifi};

    let schema = schema();
    let methods = [Wifi, Bluetooth, Esim, CommonEvent].map(UploadMethod::as_str);
    assert_eq!(schema["properties"]["upload_method"]["examples"], json!(methods));
    let codes = WarningCode::ALL.map(WarningCode::as_str);
    let warning = &schema["properties"]["warnings"]["items"]["properties"];
    assert_eq!(warning["code"]["examples"], json!(codes));
}

#[test]
fn what_the_schema_refuses_does_not_decode() {
    let valid = record(&parse(&full()));
    for (field, wrong) in [
        ("device_sn", json!("a b")),
        ("device_sn", json!("")),
        ("timestamp", json!("yesterday")),
        ("timestamp", json!("2025-09-02T16:09:00")),
        ("timestamp", json!("20250902T160900.123")),
        ("epoch_ms", json!("1")),
        ("upload_method", json!(4)),
        ("heart_rate", json!(301)),
        ("blood_oxygen", json!(0)),
        ("temperature", json!(45.004)),
        ("latitude", json!(91)),
        ("sleep", json!(0)),
        ("customer_id", json!("7")),
        ("customer_id", json!(-5)),
        ("org_id", json!(0)),
        ("user_id", json!(u64::MAX)),
        ("sleep_data", json!("{}")),
        ("workout_data", json!(5)),
        ("warnings", json!([{"field": "step", "raw": ""}])),
    ] {
        let mut value = valid.clone();
        value[field] = wrong;
        assert!(!VALIDATOR.is_valid(&value), "the schema takes {field}={}", value[field]);
        let decoded = decode(Some(value.to_string().as_bytes()));
        assert!(decoded.is_err(), "the decoder takes {field}={}", value[field]);
    }
}

#[test]
fn a_time_that_no_calendar_has_does_not_decode() {
    for (field, wrong) in [
        ("epoch_ms", json!(i64::MIN)),
        ("received_at", json!(i64::MAX)),
        ("timestamp", json!("2025-02-30 10:00:00")),
    ] {
        let mut value = record(&parse(&full()));
        value[field] = wrong;
        assert!(decode(Some(value.to_string().as_bytes())).is_err(), "{field}={}", value[field]);
    }
}

#[test]
fn a_word_of_a_later_version_costs_only_itself() {
    let reading = parse(&broken());
    for (word, method, code) in [
        ("lora", UploadMethod::Wifi, WarningCode::Unknown),
        ("4g", UploadMethod::Esim, WarningCode::Unknown),
        ("esim", UploadMethod::Esim, WarningCode::Unknown),
        ("too_large", UploadMethod::Wifi, WarningCode::TooLarge),
        ("", UploadMethod::Wifi, WarningCode::Unknown),
    ] {
        let mut value = record(&reading);
        value["upload_method"] = json!(word);
        value["warnings"][0]["code"] = json!(word);
        let mut expected = Reading { upload_method: method, ..reading.clone() };
        expected.warnings[0].code = code;
        assert_eq!(decode(Some(value.to_string().as_bytes())).unwrap(), expected, "{word:?}");
    }
}

#[test]
fn an_error_names_what_is_wrong_and_shows_no_value() {
    let mut wrong_type = record(&parse(&full()));
    wrong_type["heart_rate"] = json!("84, expected 36.6");
    for (value, message) in [
        (wrong_type.to_string(), "expected i32 at line 1 column "),
        (r#"{"device_sn":"a"}"#.to_owned(), "missing field `timestamp` at line 1 column "),
        ("84".to_owned(), "expected struct DecodedReading at line 1 column "),
        ("Zhang San".to_owned(), "expected value at line 1 column 1"),
    ] {
        let error = decode(Some(value.as_bytes())).unwrap_err().to_string();
        assert!(error.starts_with(&format!("not a reading.v1: {message}")), "{error}");
    }
}

#[test]
fn a_record_without_a_value_is_a_tombstone_and_an_empty_value_is_none() {
    assert!(matches!(decode(None), Err(DecodeError::Tombstone)));
    assert!(matches!(decode(Some(b"")), Err(DecodeError::Json(_))));
}

proptest! {
    #[test]
    fn no_value_that_the_schema_refuses_decodes(
        field in prop::sample::select(stored_fields()),
        wrong in any_json(),
    ) {
        // To the decoder, null is an absent value.
        prop_assume!(!wrong.is_null());
        let mut value = record(&parse(&full()));
        value[field.as_str()] = wrong;
        prop_assume!(!VALIDATOR.is_valid(&value));
        let error = decode(Some(value.to_string().as_bytes())).unwrap_err().to_string();
        prop_assert!(error.starts_with("not a reading.v1: "), "{}", error);
    }

    #[test]
    fn the_value_of_a_record_parses_to_its_reading_without_a_warning(
        time in any_time(),
        fields in prop::collection::btree_map(
            prop::sample::select(NAMES.to_vec()), any_json(), 0..10),
    ) {
        let mut item = json!({"id": "x", "timestamp": time});
        for (name, value) in fields {
            item[name] = value;
        }
        let reading = parse(&item);
        let again = parse(&record(&reading));
        prop_assert_eq!(again, Reading { warnings: Vec::new(), ..reading });
    }

    #[test]
    fn a_field_of_a_later_version_changes_nothing(key in ".{0,20}", added in any_json()) {
        let warning = ["field", "code", "raw"];
        prop_assume!(schema()["properties"].get(&key).is_none() && !warning.contains(&key.as_str()));
        let reading = parse(&broken());
        let mut value = record(&reading);
        value["warnings"][0][key.as_str()] = added.clone();
        value[key.as_str()] = added;
        prop_assert!(VALIDATOR.is_valid(&value));
        prop_assert_eq!(decode(Some(value.to_string().as_bytes())).unwrap(), reading);
    }

    #[test]
    fn no_error_shows_a_value(field in prop::sample::select(stored_fields()), text in ".{0,20}") {
        let mut value = record(&parse(&full()));
        value[field.as_str()] = json!(format!("{text}, expected 84 SECRET {text}"));
        let shown = decode(Some(value.to_string().as_bytes())).map_err(|error| error.to_string());
        prop_assert!(shown.is_err_and(|error| !error.contains("SECRET")) || field == "upload_method");
    }

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
        let intake = ParseContext { zone: &zone, received_at, index: 0, ids: Ids::default(), id_warnings: &[] };
        let mut item = json!({"id": "x"});
        item[key] = Value::String(text);
        let raw = RawValue::from_string(item.to_string()).unwrap();
        if let Ok(reading) = Reading::parse(&raw, &intake) {
            prop_assert_eq!(decode(Some(&encode(&reading))).unwrap(), reading);
        }
    }
}
