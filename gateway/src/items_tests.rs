use ljwx_reading::{WARNING_RAW_BYTES_MAX, wire};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn parse<'a>(content: BodyContent<'a>) -> Option<ParsedBody<'a>> {
    let zone = TimeZone::get("Asia/Shanghai").unwrap();
    let received_at = "2025-09-02T08:30:00Z".parse().unwrap();
    parse_body(content, &BodyContext { zone: &zone, received_at })
}

/// Returns each item in one word: a (accepted), d (duplicate) or the code of its rejection.
fn outcomes(body: &str) -> Vec<&'static str> {
    let parsed = parse(BodyContent::Open(body.as_bytes())).unwrap();
    assert!(!parsed.malformed, "{body}");
    let places: Vec<_> = parsed.items.iter().map(|item| item.source.index).collect();
    assert_eq!(places, (0..parsed.items.len()).collect::<Vec<_>>());
    let word = |item: &ParsedItem<'_>| match &item.parsed {
        Parsed::Accepted(_) => "a",
        Parsed::Duplicate => "d",
        Parsed::Rejected(rejection) => rejection.code.as_str(),
    };
    parsed.items.iter().map(word).collect()
}

fn item(device: &str, heart_rate: u8) -> String {
    let time = "2025-09-02 16:09:00";
    format!(r#"{{"deviceSn":"{device}","timestamp":"{time}","heart_rate":{heart_rate}}}"#)
}

#[test]
fn items_keep_their_order_and_only_the_last_of_an_identity_is_repeated() {
    let (a, changed, b) = (item("A", 70), item("A", 71), item("B", 70));
    for (items, expected) in [
        (vec![&a], vec!["a"]),
        (vec![&a, &a, &b], vec!["a", "d", "a"]),
        (vec![&a, &b, &a], vec!["a", "a", "d"]),
        (vec![&a, &changed, &a, &a], vec!["a", "a", "a", "d"]),
    ] {
        let items: Vec<_> = items.into_iter().map(String::as_str).collect();
        assert_eq!(outcomes(&format!("[{}]", items.join(","))), expected, "{items:?}");
    }
}

#[test]
fn a_value_that_was_not_taken_is_no_duplicate_of_another() {
    let with = |field: &str| item("A", 70).replace('}', &format!(",{field}}}"));
    let (low, high) = (with(r#""step":-1"#), with(r#""step":-2"#));
    // Cut texts may differ behind the cut.
    let cut = with(&format!(r#""sleepData":"[{}""#, "z".repeat(2 * WARNING_RAW_BYTES_MAX)));
    for (items, expected) in [
        ([&low, &low], ["a", "d"]),
        ([&low, &high], ["a", "a"]),
        ([&item("A", 70), &low], ["a", "a"]),
        ([&cut, &cut], ["a", "a"]),
    ] {
        assert_eq!(outcomes(&format!("[{},{}]", items[0], items[1])), expected, "{items:?}");
    }
}

#[test]
fn a_rejected_item_costs_no_other_item_and_keeps_its_own_bytes() {
    let body = format!(r#"[{},1,{{"heart_rate":70}}]"#, item("A", 70));
    assert_eq!(outcomes(&body), ["a", "invalid_item", "missing_device_sn"]);
    let parsed = parse(BodyContent::Open(body.as_bytes())).unwrap();
    assert_eq!(parsed.items[2].source.raw, br#"{"heart_rate":70}"#);
}

#[test]
fn ids_beside_the_data_go_with_each_of_its_items() {
    let body = format!(r#"{{"customer_id":7,"data":[{},1]}}"#, item("A", 70));
    let parsed = parse(BodyContent::Open(body.as_bytes())).unwrap();
    let ids: Vec<_> = parsed.items.iter().map(|item| item.source.ids.customer_id).collect();
    assert_eq!(ids, [Some(7), Some(7)]);
    let Parsed::Accepted(reading) = &parsed.items[0].parsed else { panic!("{parsed:?}") };
    assert_eq!(reading.ids().customer_id, Some(7));
}

#[test]
fn an_unusable_id_beside_the_data_warns_every_reading_that_has_none_of_its_own() {
    let own = item("B", 70).replacen('{', r#"{"customer_id":7,"#, 1);
    let inner = format!(r#"{{"org_id":-1,"data":[{},{own}]}}"#, item("A", 70));
    let body = format!(r#"{{"customer_id":"abc","org_id":5,"data":{inner}}}"#);
    let parsed = parse(BodyContent::Open(body.as_bytes())).unwrap();
    let warned: Vec<Vec<(&str, &str)>> = parsed
        .items
        .iter()
        .map(|item| {
            let Parsed::Accepted(reading) = &item.parsed else { panic!("{parsed:?}") };
            assert_eq!(reading.ids().org_id, Some(5));
            reading.warnings().iter().map(|warning| (&*warning.field, &*warning.raw)).collect()
        })
        .collect();
    let org_id = ("org_id", "-1");
    assert_eq!(warned, [vec![org_id, ("customer_id", r#""abc""#)], vec![org_id]]);
}

#[test]
fn an_unusable_id_beside_the_data_is_one_short_warning_at_however_many_levels_it_stands() {
    let long = "9".repeat(2 * WARNING_RAW_BYTES_MAX);
    let long = long.as_str();
    // The ids of the levels, the one nearest to the item first.
    for (ids, warnings) in [([long; 4], 1), (["x", "8", long, "x"], 1), (["8", long, "x", "x"], 0)]
    {
        let within = |body: String, id: &&str| format!(r#"{{"user_id":"{id}","data":{body}}}"#);
        let body = ids.iter().fold(item("A", 70), within);
        let parsed = parse(BodyContent::Open(body.as_bytes())).unwrap();
        let Parsed::Accepted(reading) = &parsed.items[0].parsed else { panic!("{parsed:?}") };
        assert_eq!(reading.warnings().len(), warnings, "{:?}", reading.warnings());
        assert!(reading.warnings().iter().all(|warning| warning.raw.len() < 100));
        assert!(!parsed.items[0].is_kept(), "the item does not hold the text");
    }
}

#[test]
fn an_empty_body_is_none_and_a_malformed_one_is_its_own_item() {
    assert!(parse(BodyContent::Open(b" ")).is_none());
    assert!(parse(BodyContent::Open(b"{}")).is_none());
    assert!(parse(BodyContent::Open(br#"{"data":[]}"#)).unwrap().items.is_empty());
    let broken = BodyContent::Broken { received: b"\x1f\x8b", encoding: Encoding::Gzip };
    for (content, raw, encoding, message) in [
        (BodyContent::Open(b"nope"), &b"nope"[..], None, "不是有效的 JSON"),
        (broken, b"\x1f\x8b", Some(Encoding::Gzip), "所说的 gzip"),
    ] {
        let parsed = parse(content).unwrap();
        assert!(parsed.malformed && parsed.items.len() == 1, "{parsed:?}");
        let ItemSource { index, raw: kept, encoding: noted, .. } = parsed.items[0].source;
        assert_eq!((index, kept, noted), (0, raw, encoding));
        let Parsed::Rejected(rejection) = &parsed.items[0].parsed else { panic!("{parsed:?}") };
        assert_eq!(rejection.code, RejectionCode::MalformedBody);
        assert!(rejection.message.contains(message), "{rejection}");
    }
}

#[test]
fn a_remark_names_the_item_the_field_and_the_remedy() {
    let body = r#"{"deviceSn":"A","timestamp":"2025-09-02 16:09:00","heart_rate":999}"#;
    let parsed = parse(BodyContent::Open(body.as_bytes())).unwrap();
    let Parsed::Accepted(reading) = &parsed.items[0].parsed else { panic!("{parsed:?}") };
    let remark = ItemResult::of_warning(3, "A", &reading.warnings()[0]);
    assert_eq!((remark.index, remark.code), (3, "out_of_range"));
    assert_eq!(remark.field.as_deref(), Some("heart_rate"));
    assert!(remark.message.starts_with("heart_rate 超出范围，未采用"), "{}", remark.message);
    let rejection = Rejection::of_field(RejectionCode::InvalidTimestamp, "timestamp", "why");
    let remark = ItemResult::of_rejection(4, rejection);
    assert_eq!((remark.index, remark.code), (4, "invalid_timestamp"));
    assert_eq!((remark.field.as_deref(), remark.message.as_str()), (Some("timestamp"), "why"));
}

/// Fields of an item, each under one spelling.
const FIELDS: [&str; 12] = [
    "deviceSn",
    "timestamp",
    "customerId",
    "upload_method",
    "heart_rate",
    "temperature",
    "step",
    "latitude",
    "sleepData",
    "exerciseDailyData",
    "exerciseWeekData",
    "workoutData",
];

/// Returns the value of a field, and the text in it that must not get lost if it is unusable.
fn value(field: &str, choice: u8) -> (Value, Option<String>) {
    let unusable = format!("{field} is not to be lost {}", choice % 2);
    match choice {
        0 | 1 => (json!(unusable), Some(unusable)),
        // The mark stands behind the cut.
        2 | 3 => {
            let text = format!("{}{unusable}", "z".repeat(2 * WARNING_RAW_BYTES_MAX));
            (json!(text), Some(unusable))
        }
        _ if field == "deviceSn" => (json!("A"), None),
        _ if field == "timestamp" => (json!("2025-09-02 16:09:00"), None),
        _ if field.ends_with("Data") => (json!({"data": [choice]}), None),
        _ if field == "upload_method" => (json!("wifi"), None),
        _ => (json!(38), None),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_value_that_is_not_taken_is_in_a_warning_or_in_a_reject(
        items in prop::collection::vec(
            prop::collection::vec((prop::sample::select(FIELDS.to_vec()), 0_u8..6), 0..4), 1..5),
    ) {
        let (mut body, mut marks) = (Vec::new(), Vec::new());
        for fields in items {
            let mut item = Map::from_iter([
                ("deviceSn".to_owned(), json!("A")),
                ("timestamp".to_owned(), json!("2025-09-02 16:09:00")),
            ]);
            let mut mark_of = HashMap::new();
            for (field, choice) in fields {
                let (value, mark) = value(field, choice);
                item.insert(field.to_owned(), value);
                mark_of.insert(field, mark);
            }
            marks.extend(mark_of.into_values().flatten());
            body.push(Value::Object(item));
        }
        let count = body.len();
        let body = Value::from(body).to_string();
        let parsed = parse(BodyContent::Open(body.as_bytes())).unwrap();
        prop_assert_eq!(parsed.items.len(), count);
        let mut kept = Vec::new();
        for item in &parsed.items {
            match &item.parsed {
                Parsed::Accepted(reading) => {
                    kept.extend(wire::encode(reading));
                    if reading.warnings().iter().any(|warning| warning.cut) {
                        kept.extend(item.source.raw);
                    }
                }
                Parsed::Rejected(_) => kept.extend(item.source.raw),
                Parsed::Duplicate => {}
            }
        }
        let kept = String::from_utf8(kept).unwrap();
        for mark in marks {
            prop_assert!(kept.contains(&mark), "{} is not in {}", mark, kept);
        }
    }
}
