use ljwx_reading::wall_text;

use super::*;

fn row(values: &[(&'static str, &str)]) -> OldRow {
    let given = [("device_sn", "A1"), ("timestamp", "2025-09-02 16:09:00")];
    let given = given.into_iter().filter(|(name, _)| !values.iter().any(|(own, _)| own == name));
    let columns = given.chain(values.iter().copied());
    OldRow { id: 7, columns: columns.map(|(name, value)| (name, Some(value.into()))).collect() }
}

fn read(values: &[(&'static str, &str)]) -> Result<(OldReading, Vec<SetAside>), SetAside> {
    let zone = TimeZone::get("Asia/Shanghai").unwrap();
    let now = "2025-12-01T00:00:00Z".parse().unwrap();
    read_reading(&row(values), Clock { zone: &zone, now })
}

#[test]
fn a_row_is_read_as_if_its_device_sent_it_again() {
    let (old, aside) = read(&[
        ("heart_rate", "0"),
        ("blood_oxygen", "97"),
        ("temperature", "36.50"),
        ("latitude", "0.000000"),
        ("longitude", "0.000000"),
        ("sleep", "7.456"),
        ("upload_method", "4g"),
        ("customer_id", "0"),
        ("user_id", "12"),
        ("phone_number", " 13800000000 "),
        ("is_deleted", "1"),
        ("create_time", "2025-09-02 16:09:03"),
        ("update_time", "2025-09-02 08:09:03"),
    ])
    .unwrap();
    let vitals = old.vitals();
    assert_eq!((vitals.heart_rate, vitals.blood_oxygen), (None, Some(97)));
    assert_eq!((vitals.temperature, vitals.latitude), (Some(36.5), None));
    assert_eq!(vitals.sleep, Some(7.46));
    assert_eq!(old.reading.upload_method().as_str(), "esim");
    assert_eq!((old.reading.ids().customer_id, old.reading.ids().user_id), (None, Some(12)));
    assert_eq!(old.phone_number.as_deref(), Some("13800000000"));
    assert!(old.is_deleted && aside.is_empty());
    assert_eq!(wall_text(old.created), "2025-09-02 16:09:03");
    assert_eq!(wall_text(old.updated), "2025-09-02 16:09:00", "never before the reading");
    assert_eq!(old.id(), -7);
}

#[test]
fn a_row_that_no_device_can_send_is_set_aside_whole_with_the_reason() {
    let long = "x".repeat(65);
    for (values, reason) in [
        (&[("device_sn", "")][..], "missing_device_sn"),
        (&[("device_sn", "bad serial")], "invalid_device_sn"),
        (&[("device_sn", long.as_str())], "invalid_device_sn"),
        (&[("device_sn", "\u{8868}1")], "invalid_device_sn"),
        (&[("timestamp", "0000-00-00 00:00:00")], "invalid_timestamp"),
        (&[("timestamp", "1999-12-31 23:59:59")], "timestamp_out_of_range"),
        (&[("timestamp", "2025-12-03 00:00:00")], "timestamp_out_of_range"),
        (
            &[("timestamp", "2025-09-04 00:00:00"), ("create_time", "2025-09-02 00:00:00")],
            "timestamp_out_of_range",
        ),
        (&[("timestamp", "")], "missing_timestamp"),
    ] {
        let aside = read(values).unwrap_err();
        assert_eq!((aside.reason, aside.field.as_str(), aside.id), (reason, "", 7), "{values:?}");
        assert!(aside.content.contains(values[0].1), "{}", aside.content);
    }
}

#[test]
fn a_value_that_no_reading_can_have_costs_only_itself() {
    let long = "1".repeat(21);
    for (column, value, reason) in [
        ("heart_rate", "999", "out_of_range"),
        ("temperature", "3650", "out_of_range"),
        ("user_id", "-5", "out_of_range"),
        ("upload_method", "pigeon", "invalid"),
        ("sleep", "-1", "out_of_range"),
        ("phone_number", long.as_str(), "too_large"),
    ] {
        let (old, aside) = read(&[(column, value), ("blood_oxygen", "97")]).unwrap();
        assert_eq!(old.vitals().blood_oxygen, Some(97), "{column}");
        let expected = (7, column, reason, value);
        let [one] = &aside[..] else { panic!("{column}: {aside:?}") };
        assert_eq!((one.id, one.field.as_str(), one.reason, one.content.as_str()), expected);
    }
}

#[test]
fn the_documents_of_a_day_are_read_and_empty_ones_are_none() {
    let zone = TimeZone::get("Asia/Shanghai").unwrap();
    let now = "2025-12-01T00:00:00Z".parse().unwrap();
    let mut day = row(&[
        ("date", "2025-09-02"),
        ("sleep_data", r#"{"code":0,"data":[1]}"#),
        ("exercise_daily_data", "null"),
        ("workout_data", "{broken"),
    ]);
    day.columns.retain(|(name, _)| *name != "timestamp");
    let (reading, aside) = read_period(&day, "date", Clock { zone: &zone, now }).unwrap();
    assert_eq!(wall_text(reading.timestamp()), "2025-09-02 00:00:00");
    let documents = reading.documents();
    assert!(documents.sleep_data.is_some() && documents.exercise_daily_data.is_none());
    let (field, reason) = (aside[0].field.as_str(), aside[0].reason);
    assert_eq!((field, reason, aside[0].content.as_str()), ("workout_data", "invalid", "{broken"));
}
