use super::*;

const DEVICE: &str = "ABC1";

fn zone() -> TimeZone {
    TimeZone::get("Asia/Shanghai").unwrap()
}

fn sought() -> SoughtReading {
    SoughtReading {
        device: DEVICE.into(),
        time: "2025-09-02 16:09:00".into(),
        at_ms: 1_756_800_540_000,
    }
}

fn kept_record(value: &str, headers: &[(&str, &str)]) -> KeptRecord {
    KeptRecord {
        partition: 2,
        offset: 7,
        timestamp_ms: 1_756_800_543_000,
        key: Some(DEVICE.as_bytes().to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: headers
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
            .collect(),
    }
}

fn reading(device: &str, time: &str) -> String {
    format!(
        "{{\"device_sn\":\"{device}\",\"timestamp\":\"{time}\",\"epoch_ms\":1756800540000,\
         \"received_at\":1756800543000,\"upload_method\":\"wifi\",\"heart_rate\":80}}"
    )
}

#[test]
fn a_record_is_found_by_identity_alone_and_says_where_it_came_from() {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [
        ("traceparent", trace),
        (REPLAY_PARTITION, "2"),
        (REPLAY_OFFSET, "3"),
        (REPLAY_COUNT, "1"),
    ];
    let own = kept_record(&reading(DEVICE, &sought().time), &headers);
    let found = record(&own, 1007, &sought(), &zone()).unwrap();
    assert_eq!(found.position, Position { partition: 2, offset: 1007 });
    assert_eq!(found.received_at, "2025-09-02 16:09:03");
    let first = Some(Position { partition: 2, offset: 3 });
    assert_eq!(found.replay, Some(ReplayHeaders { first, count: 1 }));
    let trace = found.trace.unwrap();
    assert_eq!((&*trace.trace_id, trace.sampled), ("0af7651916cd43dd8448eb211c80319c", true));
    for other in [reading("ABC2", &sought().time), reading(DEVICE, "2025-09-02 16:09:01")] {
        assert_eq!(record(&kept_record(&other, &[]), 7, &sought(), &zone()), None, "{other}");
    }
    assert!(may_be_of(None, &sought()) && may_be_of(Some(b"ABC1"), &sought()));
    assert!(!may_be_of(Some(b"ABC2"), &sought()));
}

#[test]
fn a_dead_letter_is_certain_by_identity_and_possible_if_it_cannot_be_decoded() {
    let of = |letter: &KeptRecord| dead_letter(letter, &sought());
    assert_eq!(of(&kept_record(&reading(DEVICE, &sought().time), &[])), Some(true));
    assert_eq!(of(&kept_record(&reading(DEVICE, "2025-09-02 16:09:01"), &[])), None);
    assert_eq!(of(&kept_record("cut", &[])), Some(false));
    let other = KeptRecord { key: Some(b"ABC2".to_vec()), ..kept_record("cut", &[]) };
    assert_eq!(of(&other), None);
}

#[test]
fn a_reject_is_certain_if_its_time_can_be_read_even_if_the_time_was_the_fault() {
    let of = |value: &str| {
        let headers = [("received_at", "1756700000000"), ("index", "0")];
        reject(&kept_record(value, &headers), &sought(), &zone())
    };
    let item = |time: &str| format!("{{\"deviceSn\":\"{DEVICE}\",\"timestamp\":\"{time}\"}}");
    // This time is 27 hours after the receipt.
    assert_eq!(of(&item("2025-09-02 16:09:00")), Some(true));
    assert_eq!(of(&item("2025-09-03 16:09:00")), None);
    assert_eq!(of(&item("yesterday")), Some(false));
    assert_eq!(of("no JSON"), Some(false));
    let other = KeptRecord { key: None, ..kept_record(&item("2025-09-02 16:09:00"), &[]) };
    assert_eq!(reject(&other, &sought(), &zone()), None);
}

#[test]
fn a_kept_record_is_described_by_its_headers() {
    let headers = [
        ("dlq.error.class", "data"),
        ("dlq.error.code", "1264/22003"),
        ("dlq.error.message", "Out of range"),
        ("dlq.source.partition", "2"),
        ("dlq.source.offset", "5"),
    ];
    let found = kept(&kept_record("", &headers), true, &zone());
    assert_eq!((&*found.class, found.code.as_deref()), ("data", Some("1264/22003")));
    assert_eq!((&*found.message, &*found.kept_at), ("Out of range", "2025-09-02 16:09:03"));
    assert_eq!(found.source, Some(Position { partition: 2, offset: 5 }));
    let reject = kept(&kept_record("", &[("code", "invalid_timestamp")]), false, &zone());
    assert_eq!((&*reject.class, reject.code, reject.source), ("invalid_timestamp", None, None));
}
