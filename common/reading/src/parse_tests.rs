use proptest::prelude::*;

use super::*;

const RECEIVED_AT: Timestamp = Timestamp::constant(1_756_800_600, 0);

fn parse(item: &str, index: usize) -> Result<Reading, Rejection> {
    let zone = TimeZone::get("Asia/Shanghai").unwrap();
    let intake = ParseContext {
        zone: &zone,
        received_at: RECEIVED_AT,
        index,
        ids: Ids::default(),
        id_warnings: &[],
    };
    let raw = RawValue::from_string(item.to_owned()).unwrap();
    Reading::parse(&raw, &intake)
}

fn warnings(reading: &Reading) -> Vec<(&str, WarningCode)> {
    reading.warnings.iter().map(|warning| (&*warning.field, warning.code)).collect()
}

#[test]
fn a_time_made_from_the_index_is_ahead_of_the_clock_like_any_other() {
    let missing = ("timestamp", WarningCode::Missing);
    let ahead = ("timestamp", WarningCode::AheadOfClock);
    for (index, expected) in [(0, vec![missing]), (600, vec![missing]), (601, vec![missing, ahead])]
    {
        let reading = parse(r#"{"id":"a"}"#, index).unwrap();
        assert_eq!(warnings(&reading), expected, "index {index}");
        assert_eq!(reading.ahead_of_clock(), expected.contains(&ahead), "index {index}");
    }
}

#[test]
fn a_time_in_microseconds_is_out_of_range_and_not_unreadable() {
    for (text, code) in [
        ("1756800540000000", RejectionCode::TimestampOutOfRange),
        ("\"1756800540000000000\"", RejectionCode::TimestampOutOfRange),
        ("\"yesterday\"", RejectionCode::InvalidTimestamp),
        ("\"\\ud800\"", RejectionCode::InvalidTimestamp),
    ] {
        let rejection = parse(&format!(r#"{{"id":"a","timestamp":{text}}}"#), 0).unwrap_err();
        assert_eq!(rejection.code, code, "{text}");
    }
}

#[test]
fn half_a_surrogate_pair_costs_the_field_that_has_it_and_no_other() {
    let item = |field: &str| format!(r#"{{"id":"a","step":7,{field}}}"#);
    for (field, name) in [
        (r#""heart_rate":"\ud800""#, "heart_rate"),
        (r#""upload_method":"\udc00""#, "upload_method"),
        (r#""user_id":"\ud800x""#, "user_id"),
        (r#""workoutData":{"data":["\ud800"]}"#, "workout_data"),
        (r#""workoutData":{"\ud800":1,"data":[1]}"#, "workout_data"),
    ] {
        let reading = parse(&item(field), 0).unwrap();
        let expected = vec![("timestamp", WarningCode::Missing), (name, WarningCode::Invalid)];
        assert_eq!(warnings(&reading), expected, "{field}");
        assert_eq!(reading.vitals.step, Some(7), "{field}");
    }
    let rejection = parse(r#"{"id":"\ud800"}"#, 0).unwrap_err();
    assert_eq!(rejection.code, RejectionCode::InvalidDeviceSn);
}

proptest! {
    #[test]
    fn an_ignored_key_never_changes_the_reading(
        units in prop::collection::vec(any::<u16>(), 0..4),
        first in any::<bool>(),
    ) {
        let escapes: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
        // No field has a key that begins so.
        let ignored = format!(r#""~{escapes}":["{escapes}",{{"{escapes}":"{escapes}"}}]"#);
        let fields = r#""id":"a","heart_rate":80,"sleepData":{"data":[{"a":1}]}"#;
        let item = if first {
            format!("{{{ignored},{fields}}}")
        } else {
            format!("{{{fields},{ignored}}}")
        };
        prop_assert_eq!(parse(&item, 0), parse(&format!("{{{fields}}}"), 0));
    }
}
