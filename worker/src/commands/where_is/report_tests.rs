use super::super::answers::{Position, SearchedRange};
use super::*;

fn sought() -> SoughtReading {
    SoughtReading { device: "ABC1".into(), time: "2025-09-02 16:09:00".into(), at_ms: 0 }
}

/// Returns a report in which every part was read and no part knows the reading.
fn nothing() -> WhereReport {
    WhereReport {
        device_sn: sought().device,
        timestamp: sought().time,
        group: "worker".into(),
        base: Part::Known(0),
        readings: Part::Known(TopicMatches::new(Vec::new())),
        rejects: Part::Known(TopicMatches::new(Vec::new())),
        dead_letters: Part::Known(TopicMatches::new(Vec::new())),
        row: Part::Known(None),
        group_progress: Part::Known(Vec::new()),
        redis: Part::Known(HashState::Missing),
        alerts: Part::Known(AlertSearch::default()),
        traces: Vec::new(),
    }
}

fn found(partition: i32, offset: i64) -> FoundRecord {
    FoundRecord {
        position: Position { partition, offset },
        received_at: "2025-09-02 16:09:03".into(),
        ahead_of_clock: false,
        warnings: Vec::new(),
        replay: None,
        trace: None,
    }
}

fn records(matches: Vec<FoundRecord>) -> Part<TopicMatches<FoundRecord>> {
    Part::Known(TopicMatches { matches, ..TopicMatches::new(Vec::new()) })
}

fn kept(certain: bool) -> Part<TopicMatches<KeptMatch>> {
    let found = KeptMatch {
        position: Position { partition: 0, offset: 1 },
        certain,
        kept_at: String::new(),
        class: "data".into(),
        code: None,
        message: String::new(),
        source: None,
        trace: None,
    };
    Part::Known(TopicMatches { matches: vec![found], ..TopicMatches::new(Vec::new()) })
}

#[test]
fn the_exit_code_is_0_for_any_certain_trace_and_1_for_none() {
    assert_eq!(nothing().exit_code(), EXIT_NOTHING);
    for report in [
        WhereReport { readings: records(vec![found(0, 1)]), ..nothing() },
        WhereReport { rejects: kept(true), ..nothing() },
        WhereReport { dead_letters: kept(true), ..nothing() },
        WhereReport { redis: Part::Known(HashState::This), ..nothing() },
    ] {
        assert_eq!(report.exit_code(), EXIT_FOUND, "{report:?}");
    }
    // A record without a readable time may be another reading's, and so may a hash.
    for report in [
        WhereReport { rejects: kept(false), ..nothing() },
        WhereReport { redis: Part::Known(HashState::NotAsked), ..nothing() },
    ] {
        assert_eq!(report.exit_code(), EXIT_NOTHING, "{report:?}");
    }
}

#[test]
fn the_exit_code_is_3_as_soon_as_a_part_is_unknown() {
    let unknown = || "no answer".to_owned();
    let stopped = TopicMatches { stopped: Some(unknown()), ..TopicMatches::new(Vec::new()) };
    let kept_stopped = TopicMatches { stopped: Some(unknown()), ..TopicMatches::new(Vec::new()) };
    for report in [
        WhereReport { readings: Part::Unknown(unknown()), ..nothing() },
        WhereReport { readings: Part::Known(stopped), ..nothing() },
        WhereReport { rejects: Part::Known(kept_stopped), ..nothing() },
        WhereReport { dead_letters: Part::Unknown(unknown()), rejects: kept(true), ..nothing() },
        WhereReport { base: Part::Unknown(unknown()), ..nothing() },
        WhereReport { row: Part::Unknown(unknown()), ..nothing() },
        WhereReport { group_progress: Part::Unknown(unknown()), ..nothing() },
        WhereReport { redis: Part::Unknown(unknown()), ..nothing() },
        WhereReport { alerts: Part::Unknown(unknown()), ..nothing() },
    ] {
        assert_eq!(report.exit_code(), EXIT_UNKNOWN, "{report:?}");
    }
}

#[test]
fn nothing_found_beside_deleted_records_is_unknown() {
    let range = SearchedRange { partition: 0, from: 5, to: 9, cut: true };
    let this = Part::Known(HashState::This);
    for report in [
        WhereReport { readings: Part::Known(TopicMatches::new(vec![range])), ..nothing() },
        WhereReport { rejects: Part::Known(TopicMatches::new(vec![range])), ..nothing() },
        WhereReport { dead_letters: Part::Known(TopicMatches::new(vec![range])), ..nothing() },
    ] {
        assert_eq!(report.exit_code(), EXIT_UNKNOWN, "{report:?}");
        let found = WhereReport { redis: this.clone(), ..report };
        assert_eq!(found.exit_code(), EXIT_FOUND, "{found:?}");
    }
}

#[test]
fn doubtful_matches_do_not_crowd_out_certain_ones() {
    let mut search = TopicMatches::new(Vec::new());
    for certain in std::iter::repeat_n(false, 150).chain([true]) {
        search.add(certain, |other| *other == certain);
    }
    assert_eq!((search.matches.len(), search.omitted), (101, 50));
    assert!(search.matches.contains(&true));
}

#[test]
fn a_record_waits_until_the_group_has_passed_it() {
    let range = SearchedRange { partition: 1, from: 0, to: 20, cut: false };
    let search = TopicMatches {
        matches: vec![found(1, 9), found(1, 10), found(3, 4)],
        ..TopicMatches::new(vec![range])
    };
    let row = LedgerRow { partition: 1, next_offset: 10, ..LedgerRow::default() };
    let expected = [
        GroupProgress { partition: 1, next_offset: Some(10), waiting: vec![10] },
        GroupProgress { partition: 3, next_offset: None, waiting: vec![4] },
    ];
    assert_eq!(group_progress(&search, &[row]), expected);
}

#[test]
fn the_hash_is_compared_by_its_time() {
    let state = |timestamp: &str| hash_state(Some(timestamp.to_owned()), &sought());
    let (older, newer) = ("2025-09-02 16:08:59".to_owned(), "2025-09-02 16:09:01".to_owned());
    assert_eq!(state("2025-09-02 16:09:00"), HashState::This);
    assert_eq!(state(&older), HashState::Older { timestamp: older });
    assert_eq!(state(&newer), HashState::Newer { timestamp: newer });
    assert_eq!((hash_state(None, &sought()), state("")), (HashState::Missing, HashState::Missing));
}

#[test]
fn a_source_names_a_position() {
    assert_eq!(Position::of_source((3 << 40) + 17), Some(Position { partition: 3, offset: 17 }));
    assert_eq!(Position::of_source(0), Some(Position { partition: 0, offset: 0 }));
    assert_eq!((Position::of_source(-1), Position::of_source(i64::MIN)), (None, None));
}

#[test]
fn each_trace_is_named_once_and_those_of_doubtful_records_are_not() {
    let trace = |id: &str| RecordTraceId { trace_id: id.into(), sampled: true };
    let traced = |id: &str| FoundRecord { trace: Some(trace(id)), ..found(0, 1) };
    let readings = records(vec![traced("a"), traced("a"), traced("b")]);
    let mut doubtful = kept(false);
    if let Part::Known(search) = &mut doubtful {
        search.matches[0].trace = Some(trace("c"));
    }
    let alerts = Part::Known(AlertSearch::default());
    let named = traces(&readings, [&doubtful, &Part::Unknown(String::new())], &alerts);
    assert_eq!(named, [trace("a"), trace("b")]);
}
