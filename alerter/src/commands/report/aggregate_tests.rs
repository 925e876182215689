use serde_json::json;

use super::*;
use crate::test_support::rule;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// An episode of rule 1, tenant 7, open for an hour and notified 3 s after its recording.
fn history(device_sn: &str, opened_at: i64) -> EpisodeHistory {
    let day = i8::try_from(1 + opened_at.div_euclid(DAY).max(0)).unwrap();
    EpisodeHistory {
        rule_id: 1,
        customer_id: 7,
        alert_type: "metric".into(),
        device_sn: device_sn.into(),
        opened_at,
        opened_on: jiff::civil::date(2026, 1, day),
        over_at: Some(opened_at + HOUR),
        is_open: false,
        is_notified: true,
        recorded_at: Some(opened_at + 1_000),
        delivered_at: Some(opened_at + 4_000),
    }
}

fn fold(span_ms: i64, histories: &[EpisodeHistory]) -> Vec<RuleStats> {
    let rule = rule(json!({"flap_openings": 3, "flap_window_seconds": 600}));
    let rules = HashMap::from([(1, &rule)]);
    let mut fold = Aggregation::new(0, span_ms, &rules);
    histories.iter().for_each(|history| fold.take(history));
    fold.finish()
}

#[test]
fn each_rule_and_tenant_is_told_apart() {
    let other_tenant = EpisodeHistory { customer_id: 8, ..history("A", 0) };
    let other_rule = EpisodeHistory { rule_id: 2, ..history("A", 0) };
    let episodes =
        [history("A", 0), history("A", 2 * HOUR), history("B", 0), other_tenant, other_rule];
    let tallies = fold(DAY, &episodes);
    let counts: Vec<_> = tallies
        .iter()
        .map(|RuleStats { line, .. }| (line.rule_id, line.customer_id, line.episodes))
        .collect();
    assert_eq!(counts, [(1, 7, 3), (1, 8, 1), (2, 7, 1)]);
    assert_eq!((tallies[0].line.flaps, tallies[2].line.flaps), (Some(0), None), "rule 2 is gone");
}

#[test]
fn an_episode_counts_by_its_opening_and_how_soon_it_was_notified() {
    let ahead =
        EpisodeHistory { delivered_at: Some(DAY - 10), recorded_at: None, ..history("B", DAY - 5) };
    let still_open = EpisodeHistory { over_at: None, is_open: true, ..history("C", 5 * HOUR) };
    let superseded = EpisodeHistory {
        over_at: None,
        is_notified: false,
        delivered_at: None,
        ..still_open.clone()
    };
    let superseded = EpisodeHistory { is_open: false, device_sn: "D".into(), ..superseded };
    let carried = EpisodeHistory { over_at: None, is_open: true, ..history("E", -HOUR) };
    let later = history("F", DAY);
    let tallies = fold(DAY, &[history("A", 0), ahead, still_open, superseded, carried, later]);
    let [tally] = &tallies[..] else { panic!("{tallies:?}") };
    let line = &tally.line;
    assert_eq!((line.episodes, line.notified, line.ended, line.open), (4, 3, 3, 2));
    assert_eq!((line.lasted_p50_ms, line.event_to_delivery_p95_ms), (Some(HOUR), Some(4_000)));
    assert_eq!(tally.lasted.percentiles([50, 100]), [Some(HOUR), Some(HOUR)]);
    assert_eq!(tally.since_event.percentiles([0, 100]), [Some(0), Some(4_000)]);
    assert_eq!(tally.since_recorded.percentiles([0, 100]), [Some(3_000), Some(3_000)]);
}

#[test]
fn a_rule_fires_all_day_that_is_open_for_most_of_the_span_or_opens_again_and_again() {
    let minute = HOUR / 60;
    let episodes = |count: i64, lasts: i64, first: i64| -> Vec<EpisodeHistory> {
        let at = |number| first + number * 20 * minute;
        let one = |number| EpisodeHistory {
            over_at: Some(at(number) + lasts),
            ..history("A", at(number))
        };
        (0..count).map(one).collect()
    };
    let until =
        |until: i64| vec![EpisodeHistory { over_at: Some(until), ..history("A", -5 * DAY) }];
    let open = |since| vec![EpisodeHistory { over_at: None, is_open: true, ..history("A", since) }];
    let superseded = vec![EpisodeHistory { over_at: None, ..history("A", -5 * DAY) }];
    for (span, episodes, loud) in [
        (DAY, episodes(50, minute, 0), false),
        (DAY, episodes(51, minute, 0), true),
        // Fifty-one, but not on one day.
        (2 * DAY, episodes(51, minute, 23 * HOUR), false),
        (DAY, episodes(50, 17 * minute, 0), false),
        (DAY, until(4 * HOUR), false),
        (DAY, until(20 * HOUR), true),
        (2 * DAY, open(DAY), false),
        (2 * DAY, open(-DAY), true),
        (DAY, superseded, false),
    ] {
        let tallies = fold(span, &episodes);
        let found = tallies[0].all_day.as_ref().map(|loudest| loudest.devices);
        assert_eq!(found, loud.then_some(1), "{} {:?}: {tallies:?}", episodes.len(), episodes[0]);
    }
}

#[test]
fn the_loudest_device_is_named_and_the_others_counted() {
    let until =
        |device, hours| EpisodeHistory { over_at: Some(hours * HOUR), ..history(device, -HOUR) };
    let tallies = fold(DAY, &[until("A", 21), until("B", 23), until("C", 22), until("D", 1)]);
    let loudest = tallies[0].all_day.as_ref().unwrap();
    assert_eq!((loudest.devices, loudest.device_sn.as_str()), (3, "B"));
}

#[test]
fn a_device_flaps_once_until_it_settles() {
    let minute = HOUR / 60;
    let at = |minutes: &[i64]| -> u64 {
        let episodes: Vec<_> = minutes.iter().map(|at| history("A", at * minute)).collect();
        fold(DAY, &episodes)[0].line.flaps.unwrap()
    };
    for (minutes, flaps) in [
        (&[0, 1][..], 0),
        (&[0, 1, 2], 1),
        (&[0, 1, 2, 3, 4, 5, 6], 1),
        (&[0, 5, 11], 0),
        (&[0, 1, 2, 30, 31], 1),
        (&[0, 1, 2, 30, 31, 32], 2),
    ] {
        assert_eq!(at(minutes), flaps, "{minutes:?}");
    }
}
