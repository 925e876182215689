//! Holds `docs/reading-request.v1.json`, the recommended body, against the parser.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use proptest::strategy::Union;
use proptest::string::string_regex;
use serde_json::{Map, Value, json};

use crate::envelope::{self, BodyItem, READINGS_MAX};
use crate::{ParseContext, Reading};

/// Most items of a generated list.
const ITEMS_MAX: usize = 4;

/// Fields of a record that no client sends.
const OF_THE_GATEWAY: [&str; 4] = ["epoch_ms", "received_at", "sleep", "warnings"];

/// Worked examples with a document whose damage the parser knows.
const DAMAGED: [&str; 2] = ["missing_comma_with_entries", "sleep_in_seconds"];

static VALIDATOR: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| jsonschema::validator_for(&schema()).unwrap());

fn schema() -> Value {
    serde_json::from_str(include_str!("../../../docs/reading-request.v1.json")).unwrap()
}

/// Parses a body that is received after every time that the schema accepts.
fn readings(body: &Value) -> Vec<Reading> {
    let zone = TimeZone::get("Asia/Shanghai").unwrap();
    let received_at: Timestamp = "2100-01-02T00:00:00Z".parse().unwrap();
    let body = body.to_string();
    let parse = |(index, item): (usize, &BodyItem<'_>)| {
        let context = ParseContext {
            zone: &zone,
            received_at,
            index,
            ids: item.ids,
            id_warnings: &item.id_warnings,
        };
        Reading::parse(item.raw, &context).unwrap()
    };
    envelope::unwrap(body.as_bytes()).unwrap().iter().enumerate().map(parse).collect()
}

/// Returns a strategy for the values that a part of the schema accepts.
fn values(part: &Value) -> BoxedStrategy<Value> {
    if let Some(name) = part["$ref"].as_str() {
        return values(&schema()["$defs"][name.trim_start_matches("#/$defs/")]);
    }
    if let Some(choices) = part["anyOf"].as_array() {
        return Union::new(choices.iter().map(values)).boxed();
    }
    if let Some(choices) = part["enum"].as_array() {
        return prop::sample::select(choices.clone()).boxed();
    }
    let (least, most) = (&part["minimum"], &part["maximum"]);
    match part["type"].as_str() {
        None => Just(part["const"].clone()).boxed(),
        Some("object") => objects(part),
        Some("array") => prop::collection::vec(values(&part["items"]), 1..=ITEMS_MAX)
            .prop_map(Value::from)
            .boxed(),
        Some("string") => {
            let pattern = part["pattern"].as_str().unwrap().trim_matches(['^', '$']);
            string_regex(pattern).unwrap().prop_map(Value::from).boxed()
        }
        Some("integer") => {
            let (least, most) = (least.as_i64().unwrap(), most.as_i64().unwrap());
            prop_oneof![least..=most, Just(least), Just(most)].prop_map(Value::from).boxed()
        }
        Some("number") => {
            let (least, most) = (least.as_f64().unwrap(), most.as_f64().unwrap());
            prop_oneof![least..=most, Just(least), Just(most)].prop_map(Value::from).boxed()
        }
        Some(other) => panic!("no values of type {other}"),
    }
}

fn objects(part: &Value) -> BoxedStrategy<Value> {
    let required = part["required"].as_array().unwrap();
    let mut objects = Just(Map::new()).boxed();
    for (name, field) in part["properties"].as_object().unwrap() {
        let name = name.clone();
        let value = if required.contains(&json!(name)) {
            values(field).prop_map(Some).boxed()
        } else {
            prop::option::of(values(field)).boxed()
        };
        let with_field = (objects, value).prop_map(move |(mut object, value)| {
            if let Some(value) = value {
                object.insert(name.clone(), value);
            }
            object
        });
        objects = with_field.boxed();
    }
    objects.prop_map(Value::Object).boxed()
}

#[test]
fn the_recommended_names_words_and_ranges_are_those_of_a_record() {
    let record: Value = serde_json::from_str(include_str!("../reading.v1.schema.json")).unwrap();
    let (record, schema) = (&record["properties"], schema());
    let request = &schema["$defs"]["reading"]["properties"];
    let names = record.as_object().unwrap().keys();
    let names: Vec<_> = names.filter(|name| !OF_THE_GATEWAY.contains(&name.as_str())).collect();
    assert_eq!(request.as_object().unwrap().keys().collect::<Vec<_>>(), names);
    for name in names.into_iter().filter(|name| request[*name].get("$ref").is_none()) {
        for bound in ["minimum", "maximum"] {
            assert_eq!(request[name][bound], record[name][bound], "{bound} of {name}");
        }
    }
    assert_eq!(request["upload_method"]["enum"], record["upload_method"]["examples"]);
    assert_eq!(schema["properties"]["data"]["anyOf"][1]["maxItems"], READINGS_MAX);
}

#[test]
fn each_worked_example_in_canonical_spelling_is_recommended() {
    let file: Value =
        serde_json::from_str(include_str!("../../../tests/cases/cases.json")).unwrap();
    let mut checked = 0;
    for case in file["cases"].as_array().unwrap() {
        for reading in case["readings"].as_array().unwrap() {
            let mut reading = reading.clone();
            for name in OF_THE_GATEWAY {
                reading.as_object_mut().unwrap().remove(name);
            }
            let damaged = DAMAGED.contains(&case["name"].as_str().unwrap());
            let body = json!({ "data": reading });
            assert_eq!(VALIDATOR.is_valid(&body), !damaged, "{body}");
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked} readings");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn what_the_schema_accepts_is_accepted_without_a_warning(body in values(&schema())) {
        prop_assume!(VALIDATOR.is_valid(&body));
        for reading in readings(&body) {
            prop_assert!(reading.warnings().is_empty(), "{:?} of {}", reading.warnings(), body);
        }
    }
}
