use std::sync::Arc;

use jiff::tz::TimeZone;
use ljwx_reading::{Reading, wall_text};
use serde_json::{Value, json};

use crate::engine::outcome::{CHANGES_MAX, moment};
use crate::engine::routing::{OwedReason, Routed, Router};
use crate::engine::{Arrival, Change, Engine, ReadingOutcome, Silence, StoredPartition};
use crate::rules::index::RuleSet;
use crate::rules::{Measurement, Rule, Verdict, Vital};
use crate::test_support::{merged, reading, rule};

/// The hour of all events here, in milliseconds.
const HOUR_MS: i64 = 1_756_785_600_000;

fn rules(fields: Value) -> Arc<RuleSet> {
    let silent = json!({
        "rule_category": "NO_DATA", "physical_sign": null, "threshold_max": null,
        "time_window_seconds": 300,
    });
    Arc::new(RuleSet::new(vec![rule(merged(silent, fields))]))
}

/// Returns rules that became active `second` seconds into the hour.
fn rules_from(second: i64, fields: Value) -> Arc<RuleSet> {
    let from_ms = HOUR_MS + second * 1000;
    let came = |rule: &Arc<Rule>| Rule { from_ms, ..rule.as_ref().clone() };
    Arc::new(RuleSet::new(rules(fields).all().iter().map(came)))
}

fn engine(rules: &Arc<RuleSet>) -> Engine {
    let mut engine = Engine::default();
    engine.set_rules(Arc::clone(rules));
    engine.load(0, StoredPartition::default());
    engine.realign(0);
    engine
}

/// Returns a heart rate of a device, `second` seconds into the hour.
fn measured(device: &str, second: i64, value: i64) -> Reading {
    let at = HOUR_MS + second * 1000;
    let wall = moment(&TimeZone::get("Asia/Shanghai").unwrap(), at).wall;
    reading(json!({
        "device_sn": device, "customer_id": 7, "heart_rate": value, "timestamp": wall_text(wall),
        "received_at": at,
    }))
}

/// Evaluates a heart rate of a device, `second` seconds into the hour.
fn evaluated(engine: &mut Engine, device: &str, second: i64, value: i64) -> Vec<String> {
    let evaluated = engine.evaluate(0, &measured(device, second, value), &Routed::Somebody);
    assert_eq!(evaluated.outcome, ReadingOutcome::Evaluated);
    said(&evaluated.changes)
}

/// Returns the transitions: device, transition, time, and `!` if it is notified.
fn said(changes: &[Change]) -> Vec<String> {
    let one = |change: &Change| {
        let (to, notify) = (change.transition.to.as_str(), change.transition.notify);
        let second = (change.at.ms - HOUR_MS) / 1000;
        format!("{} {to} {second}{}", change.device_sn, if notify { "!" } else { "" })
    };
    changes.iter().map(one).collect()
}

/// Lets another device be seen every minute during a period of seconds.
fn others(engine: &mut Engine, from: i64, to: i64) -> Vec<String> {
    let minutes = (from..=to).step_by(60);
    minutes.flat_map(|second| evaluated(engine, "B", second, 80)).collect()
}

#[test]
fn a_silent_device_is_missed_once_and_its_next_reading_ends_it() {
    let mut engine = engine(&rules(json!({})));
    assert!(evaluated(&mut engine, "A", 0, 80).is_empty());
    assert_eq!(others(&mut engine, 0, 1_200), ["A opened 300!"]);
    assert_eq!(evaluated(&mut engine, "A", 1_210, 80), ["A resolved 1210!"]);
    assert!(others(&mut engine, 1_220, 1_460).is_empty());
    assert_eq!(engine.open_episodes().values().sum::<u64>(), 0);
}

#[test]
fn of_many_devices_missing_at_once_a_record_shows_some_and_the_next_one_the_others() {
    let mut engine = engine(&rules(json!({})));
    for device in 0..=CHANGES_MAX {
        evaluated(&mut engine, &format!("A{device}"), 0, 80);
    }
    others(&mut engine, 0, 240);
    let missed = [300, 301].map(|second| evaluated(&mut engine, "B", second, 80).len());
    assert_eq!(missed, [CHANGES_MAX, 1]);
}

#[test]
fn a_device_that_stops_repeating_its_readings_is_silent_and_has_no_other_fault() {
    let repeated = |second: i64| {
        reading(json!({
            "device_sn": "A", "customer_id": 7, "heart_rate": 80,
            "timestamp": "2025-09-02 12:00:00", "received_at": HOUR_MS + second * 1000,
        }))
    };
    for (until, silence) in
        [(0, Silence::Silent), (60, Silence::Silent), (240, Silence::NothingNew)]
    {
        let mut engine = engine(&rules(json!({})));
        evaluated(&mut engine, "A", 0, 80);
        for second in (60..=240).step_by(60) {
            evaluated(&mut engine, "B", second, 80);
            if second <= until {
                let late = engine.evaluate(0, &repeated(second), &Routed::Somebody);
                assert_eq!(late.outcome, ReadingOutcome::Late);
            }
        }
        let opened = engine.tick(0, HOUR_MS + 306_000, &Routed::Somebody).0;
        assert_eq!(said(&opened), ["A opened 300!"]);
        assert_eq!(opened[0].silence, silence, "it repeats until {until} s");
    }
}

#[test]
fn nobody_is_missed_when_nobody_is_seen() {
    let mut engine = engine(&rules(json!({})));
    evaluated(&mut engine, "A", 0, 80);
    evaluated(&mut engine, "B", 10, 80);
    let now = HOUR_MS + 3_600_000;
    assert!(engine.overdue(now).is_empty(), "wall time alone says nothing");
    assert!(evaluated(&mut engine, "B", 3_600, 80).is_empty(), "the gateway was away");
    assert_eq!(others(&mut engine, 3_660, 4_000), ["A opened 3900!"]);
}

#[test]
fn short_outages_in_a_row_make_nobody_missing() {
    let mut engine = engine(&rules(json!({})));
    for second in [0, 60, 370, 730, 1_090] {
        assert_eq!(evaluated(&mut engine, "B", second, 80), [""; 0]);
        assert_eq!(evaluated(&mut engine, "A", second + 10, 80), [""; 0]);
    }
}

#[test]
fn devices_that_report_slowly_end_no_outage_and_are_missed() {
    let mut engine = engine(&rules(json!({})));
    for second in [0, 200, 400] {
        assert_eq!(evaluated(&mut engine, "A", second, 80), [""; 0]);
        assert_eq!(evaluated(&mut engine, "B", second + 10, 80), [""; 0]);
    }
    let missed = [600, 800].map(|second| evaluated(&mut engine, "A", second, 80));
    assert_eq!(missed.concat(), ["B opened 710!"]);
}

#[test]
fn wall_time_notices_what_the_next_record_would_show() {
    let mut engine = engine(&rules(json!({})));
    evaluated(&mut engine, "A", 0, 80);
    others(&mut engine, 0, 290);
    assert!(engine.overdue(HOUR_MS + 304_000).is_empty(), "a reading may be under way");
    let now = HOUR_MS + 306_000;
    assert_eq!(engine.overdue(now), [0]);
    assert_eq!(said(&engine.tick(0, now, &Routed::Somebody).0), ["A opened 300!"]);
    assert!(engine.overdue(now).is_empty() && others(&mut engine, 310, 600).is_empty());
}

#[test]
fn a_pause_before_the_last_record_makes_nobody_missing_after_it() {
    let mut engine = engine(&rules(json!({})));
    evaluated(&mut engine, "A", 0, 80);
    others(&mut engine, 0, 240);
    // The clock of the gateway is 11 s slow.
    let last = measured("B", 295, 80);
    let arrival = Arrival { evaluated_ms: HOUR_MS + 306_000, ..Arrival::from(&last) };
    engine.evaluate(0, arrival, &Routed::Somebody);
    let now = |second: i64| HOUR_MS + second * 1000;
    assert_eq!(engine.overdue(now(307)), [0]);
    // The check that counted this time does not know the record yet.
    let counted_ms = 54_000;
    let mut pass = |second| said(&engine.pass(0, counted_ms, now(second), &Routed::Somebody).0);
    assert_eq!(pass(307), [""; 0]);
    assert_eq!(pass(316), ["A opened 300!"]);
}

#[test]
fn a_missing_device_is_back_with_its_next_record_even_if_the_clock_of_its_gateway_is_slow() {
    let mut engine = engine(&rules(json!({})));
    assert!(evaluated(&mut engine, "A", 0, 80).is_empty());
    let missed = engine.tick(0, HOUR_MS + 306_000, &Routed::Somebody).0;
    assert_eq!(said(&missed), ["A opened 300!"]);
    let back = reading(json!({
        "device_sn": "A", "customer_id": 7, "heart_rate": 80, "timestamp": "2025-09-02 12:05:10",
        "received_at": HOUR_MS,
    }));
    let back = engine.evaluate(0, &back, &Routed::Somebody);
    assert_eq!(said(&back.changes), ["A resolved 0!"]);
}

#[test]
fn a_restart_changes_neither_what_is_missed_nor_when() {
    let rules = rules(json!({}));
    for restart in [0, 120, 290, 310, 900] {
        let mut engine = engine(&rules);
        let mut all = evaluated(&mut engine, "A", 0, 80);
        for second in (0..=1_200).step_by(10) {
            if second == restart {
                let stored = engine.as_stored(0);
                engine = Engine::default();
                engine.set_rules(Arc::clone(&rules));
                engine.load(0, stored);
                engine.realign(0);
            }
            all.extend(evaluated(&mut engine, "B", second, 80));
        }
        all.extend(evaluated(&mut engine, "A", 1_210, 80));
        assert_eq!(all, ["A opened 300!", "A resolved 1210!"], "restart at {restart}");
    }
}

#[test]
fn a_changed_rule_starts_counting_anew() {
    let mut engine = engine(&rules(json!({})));
    evaluated(&mut engine, "A", 0, 80);
    others(&mut engine, 0, 360);
    engine.set_rules(rules_from(360, json!({"version": 2, "cooldown_seconds": 0})));
    assert_eq!(said(&engine.realign(0)), ["A superseded 360"]);
    assert_eq!(others(&mut engine, 420, 780), ["A opened 660!"]);
}

#[test]
fn an_absence_is_notified_within_the_effective_hours_and_escalates_while_it_lasts() {
    // The hour begins at 04:00 UTC. The engine of these tests dates missing data in UTC.
    let mut by_night = engine(&rules(json!({"effective_time_start": "04:10:00"})));
    evaluated(&mut by_night, "A", 0, 80);
    assert_eq!(others(&mut by_night, 0, 900), ["A opened 600!"]);
    let escalation = json!([{"after_seconds": 600, "to": "critical"}]);
    let mut engine = engine(&rules(json!({"escalation": escalation})));
    evaluated(&mut engine, "A", 0, 80);
    assert_eq!(others(&mut engine, 0, 1_800), ["A opened 300!", "A escalated 900!"]);
}

#[test]
fn an_episode_whose_device_falls_silent_closes_as_stale_and_is_notified_once() {
    let fields = json!({
        "rule_category": "SINGLE", "physical_sign": "heart_rate", "threshold_max": 100,
        "stale_after_seconds": 600,
    });
    let mut engine = engine(&rules(fields));
    assert_eq!(evaluated(&mut engine, "A", 0, 120), ["A opened 0!"]);
    assert_eq!(evaluated(&mut engine, "A", 200, 120), [""; 0]);
    assert_eq!(others(&mut engine, 0, 2_000), ["A stale 800!"]);
    assert_eq!(evaluated(&mut engine, "A", 2_010, 80), [""; 0], "it is over");
    assert_eq!(evaluated(&mut engine, "A", 2_020, 120), ["A opened 2020!"]);
}

#[test]
fn a_device_out_of_service_is_missed_only_after_it_was_seen_again() {
    let mut engine = engine(&Arc::default());
    evaluated(&mut engine, "A", 0, 80);
    let later = 8 * 86_400;
    evaluated(&mut engine, "B", later, 80);
    engine.set_rules(rules_from(later, json!({})));
    engine.realign(0);
    assert!(others(&mut engine, later + 60, later + 900).is_empty());
    evaluated(&mut engine, "A", later + 910, 80);
    let opened = format!("A opened {}!", later + 1_210);
    assert_eq!(others(&mut engine, later + 960, later + 1_300), [opened]);
}

#[test]
fn a_device_out_of_service_is_not_missed_by_a_rule_that_its_tenant_inherits_now() {
    let [template, own] = [json!({"customer_id": 0}), json!({"id": 2, "is_enabled": 0})]
        .map(|fields| Arc::clone(&rules_from(0, fields).all()[0]));
    let mut engine = engine(&Arc::new(RuleSet::new([Arc::clone(&template), own])));
    evaluated(&mut engine, "A", 0, 80);
    let later = 8 * 86_400;
    evaluated(&mut engine, "B", later, 80);
    engine.set_rules(Arc::new(RuleSet::new([template])));
    engine.realign(0);
    assert_eq!(others(&mut engine, later + 60, later + 900), [""; 0]);
    evaluated(&mut engine, "A", later + 910, 80);
    let opened = format!("A opened {}!", later + 1_210);
    assert_eq!(others(&mut engine, later + 960, later + 1_300), [opened]);
}

#[test]
fn an_absence_that_nobody_could_be_notified_of_is_notified_later_though_the_device_stays_silent() {
    let mut engine = engine(&rules(json!({"cooldown_seconds": 3_600})));
    evaluated(&mut engine, "A", 0, 80);
    others(&mut engine, 0, 290);
    let nobody = Routed::Nobody(OwedReason::NoRecipient);
    let opened = engine.tick(0, HOUR_MS + 306_000, &nobody).0;
    assert_eq!(said(&opened), ["A opened 300"]);
    let mut look = |second: i64, router: &dyn Router| {
        assert!(engine.tick(0, HOUR_MS + second * 1000, router).0.is_empty());
        engine.look(0, HOUR_MS + second * 1000, true, router).0
    };
    assert!(look(360, &Routed::Somebody).is_empty(), "it is looked at once a minute");
    assert!(look(366, &nobody).is_empty());
    let notified = look(426, &Routed::Somebody);
    assert_eq!(said(&notified), ["A notified 426!"]);
    let silence = Measurement { vital: Vital::NoData, value: 426.0 };
    assert!(matches!(notified[0].verdict, Verdict::Breach { measured, .. } if measured == silence));
    assert!(look(540, &Routed::Somebody).is_empty(), "once");
}

#[test]
fn an_absence_that_ends_while_it_is_owed_notifies_nobody() {
    let mut engine = engine(&rules(json!({})));
    evaluated(&mut engine, "A", 0, 80);
    others(&mut engine, 0, 290);
    let silenced = Routed::Nobody(OwedReason::Silenced);
    assert_eq!(said(&engine.tick(0, HOUR_MS + 306_000, &silenced).0), ["A opened 300"]);
    assert_eq!(evaluated(&mut engine, "A", 320, 80), ["A resolved 320"]);
    assert!(engine.look(0, HOUR_MS + 400_000, true, &Routed::Somebody).0.is_empty());
}

#[test]
fn a_reminder_of_an_absence_counts_from_the_look_that_notified_it() {
    let mut engine = engine(&rules(json!({"cooldown_seconds": 0, "repeat_interval_seconds": 120})));
    evaluated(&mut engine, "A", 0, 80);
    others(&mut engine, 0, 290);
    let silenced = Routed::Nobody(OwedReason::Silenced);
    assert_eq!(engine.tick(0, HOUR_MS + 306_000, &silenced).0.len(), 1);
    let notified = engine.look(0, HOUR_MS + 366_000, true, &Routed::Somebody).0;
    assert_eq!(said(&notified), ["A notified 366!"]);
    assert_eq!(others(&mut engine, 370, 610), ["A notified 486!", "A notified 606!"]);
}

#[test]
fn after_a_restart_an_owed_absence_is_neither_dated_back_nor_reminded_of_many_times() {
    let rules = rules(json!({"cooldown_seconds": 0, "repeat_interval_seconds": 60}));
    let mut engine = engine(&rules);
    evaluated(&mut engine, "A", 0, 80);
    others(&mut engine, 0, 290);
    let silenced = Routed::Nobody(OwedReason::Silenced);
    assert_eq!(said(&engine.tick(0, HOUR_MS + 306_000, &silenced).0), ["A opened 300"]);
    assert!(engine.look(0, HOUR_MS + 366_000, true, &silenced).0.is_empty());
    let stored = engine.as_stored(0);
    for edited in [false, true] {
        engine.load(0, stored.clone());
        engine.realign(0);
        if edited {
            engine.set_rules(Arc::clone(&rules));
            engine.realign(0);
        }
        assert_eq!(evaluated(&mut engine, "B", 380, 80), [""; 0], "nothing is checked again");
        assert!(engine.look(0, HOUR_MS + 390_000, true, &Routed::Somebody).0.is_empty());
        let notified = engine.look(0, HOUR_MS + 450_000, true, &Routed::Somebody).0;
        assert_eq!(said(&notified), ["A notified 450!"]);
        assert_eq!(evaluated(&mut engine, "B", 520, 80), ["A notified 510!"]);
    }
}
