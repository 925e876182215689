use ljwx_service::text::print_found;

use super::super::answers::{ReplayHeaders, SearchedRange, StoredDocument};
use super::*;

fn text(report: &WhereReport, json: bool) -> String {
    let mut out = Vec::new();
    print_found(json, report, &mut out, print).unwrap();
    String::from_utf8(out).unwrap()
}

fn position(partition: i32, offset: i64) -> Position {
    Position { partition, offset }
}

fn records() -> TopicMatches<FoundRecord> {
    let trace = RecordTraceId { trace_id: "0af7".into(), sampled: true };
    let first = FoundRecord {
        position: position(2, 17),
        received_at: "2025-09-02 16:09:03".into(),
        ahead_of_clock: false,
        warnings: vec!["sleep invalid".into()],
        replay: None,
        trace: Some(trace),
    };
    let replay = ReplayHeaders { first: Some(position(2, 17)), count: 1 };
    let again = FoundRecord {
        position: position(2, 19),
        warnings: Vec::new(),
        replay: Some(replay),
        trace: None,
        ..first.clone()
    };
    let range = SearchedRange { partition: 2, from: 10, to: 40, cut: false };
    TopicMatches { matches: vec![first, again], ..TopicMatches::new(vec![range]) }
}

fn letters() -> TopicMatches<KeptMatch> {
    let letter = KeptMatch {
        position: position(2, 3),
        certain: true,
        kept_at: "2025-09-02 16:09:03".into(),
        class: "data".into(),
        code: Some("1264/22003".into()),
        message: "Out\nof\u{1b}range".into(),
        source: Some(position(2, 17)),
        trace: None,
    };
    let range = SearchedRange { partition: 2, from: 3, to: 4, cut: true };
    TopicMatches { matches: vec![letter], ..TopicMatches::new(vec![range]) }
}

fn stored() -> StoredReading {
    StoredReading {
        id: 17,
        last_source: 19,
        first: Some(position(2, 17)),
        latest: Some(position(2, 19)),
        deliveries: 2,
        user_id: Some(5),
        org_id: None,
        customer_id: Some(7),
        create_time: "2025-09-02 16:09:04".into(),
        update_time: "2025-09-02 16:10:00".into(),
        documents: vec![StoredDocument {
            table: "t_user_health_data_daily",
            column: "sleep_data",
            source: Some(position(2, 19)),
        }],
    }
}

fn alert() -> FoundAlert {
    FoundAlert {
        id: 41,
        rule_id: 3,
        alert_type: "HEARTRATE_HIGH_ALERT".into(),
        severity: "major".into(),
        status: "NOTIFIED".into(),
        opened_at: "2025-09-02 16:09:00".into(),
        recovered_at: None,
        relation: AlertRelation::Opened,
        notifications: vec![FoundNotification {
            id: 9,
            transition: "opened".into(),
            at_reading: true,
            recipient: "openid:nurse".into(),
            state: "sent".into(),
            attempts: 1,
            finished_at: Some("2025-09-02 16:09:05".into()),
            last_error: None,
            trace: None,
        }],
    }
}

fn report() -> WhereReport {
    WhereReport {
        device_sn: "ABC1".into(),
        timestamp: "2025-09-02 16:09:00".into(),
        group: "worker".into(),
        base: Part::Known(0),
        readings: Part::Known(records()),
        rejects: Part::Known(TopicMatches::new(Vec::new())),
        dead_letters: Part::Known(letters()),
        row: Part::Known(Some(stored())),
        group_progress: Part::Known(vec![GroupProgress {
            partition: 2,
            next_offset: Some(18),
            waiting: vec![19],
        }]),
        redis: Part::Unknown("Redis is unreachable".into()),
        alerts: Part::Known(AlertSearch { alerts: vec![alert()], cut: false }),
        traces: vec![RecordTraceId { trace_id: "0af7".into(), sampled: true }],
    }
}

#[test]
fn every_part_is_printed_in_the_order_of_the_pipeline() {
    let expected = "\
reading of ABC1 at 2025-09-02 16:09:00

readings topic: 2 records
  2/17  received 2025-09-02 16:09:03  trace 0af7  warnings: sleep invalid
  2/19  received 2025-09-02 16:09:03  replay 1 of 2/17
  searched partition 2 offsets 10..40
rejects topic: 0 of this reading
dead letters: 1 of this reading
  2/3  data 1264/22003  2025-09-02 16:09:03  delivery 2/17  Out of range
  the oldest records are deleted: an older one is unknown
row: stored from 2/17, last delivery 2/19, merged from 2 deliveries, created 2025-09-02 16:09:04, \
updated 2025-09-02 16:10:00
  user 5, organisation -, tenant 7
  document sleep_data in t_user_health_data_daily from 2/19
group worker: 1 partition
  partition 2: offset 19 waits: the group stands at 18
redis: unknown: Redis is unreachable
alerts: 1 alert opened or changed at this time
  alert 41 opened at this time: rule 3 HEARTRATE_HIGH_ALERT, major, NOTIFIED, opened 2025-09-02 16:09:00
    notification 9 of opened to openid:nurse: sent 2025-09-02 16:09:05, 1 attempt(s)
traces: open them in Jaeger with Lookup by Trace ID
  0af7
";
    assert_eq!(text(&report(), false), expected);
}

#[test]
fn nothing_is_printed_as_nothing() {
    let nothing = WhereReport {
        readings: Part::Known(TopicMatches::new(Vec::new())),
        dead_letters: Part::Known(TopicMatches::new(Vec::new())),
        row: Part::Known(None),
        group_progress: Part::Known(Vec::new()),
        redis: Part::Known(HashState::NotAsked),
        alerts: Part::Known(AlertSearch::default()),
        traces: Vec::new(),
        ..report()
    };
    let text = text(&nothing, false);
    for line in [
        "readings topic: 0 records\n",
        "dead letters: 0 of this reading\n",
        "row: none\n",
        "redis: not asked: REDIS_URL is not set\n",
        "alerts: no alert was opened or changed at this time\n",
        "traces: none\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn a_row_of_replayed_rejects_and_one_of_another_program_are_told_apart() {
    let of = |first: Option<Position>| {
        row(&Some(StoredReading { first, latest: None, deliveries: 1, ..stored() })).0
    };
    let reject = of(Some(position(2, 17)));
    assert!(
        reject.starts_with("stored from 2/17, a replayed reject, merged from 1 delivery"),
        "{reject}"
    );
    assert!(of(None).starts_with("written by another program, id 17"), "{}", of(None));
}

#[test]
fn offsets_without_a_known_base_are_kafka_s_own() {
    let unknown = WhereReport { base: Part::Unknown("MySQL is down".into()), ..report() };
    let text = text(&unknown, false);
    let note = "  these offsets are Kafka's own: the ledger's base is unknown: MySQL is down\n";
    assert!(text.contains(note), "{text}");
}

#[test]
fn the_document_tells_known_from_unknown() {
    let document: serde_json::Value = serde_json::from_str(&text(&report(), true)).unwrap();
    assert_eq!(document["readings"]["known"]["matches"][1]["replay"]["first"]["offset"], 17);
    assert_eq!(document["row"]["known"]["latest"]["partition"], 2);
    assert_eq!(document["redis"]["unknown"], "Redis is unreachable");
    assert_eq!(document["alerts"]["known"]["alerts"][0]["relation"], "opened");
}
