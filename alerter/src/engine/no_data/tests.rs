use std::sync::Arc;

use jiff::tz::TimeZone;
use ljwx_reading::wall_text;
use serde_json::{Value, json};

use crate::engine::outcome::moment;
use crate::engine::routing::{OwedReason, Routed, Router};
use crate::engine::{Change, Engine, ReadingOutcome, Silence, StoredPartition};
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

/// Evaluates a heart rate of a device, `second` seconds into the hour.
fn heard(engine: &mut Engine, device: &str, second: i64, value: i64) -> Vec<String> {
    let at = HOUR_MS + second * 1000;
    let wall = moment(&TimeZone::get("Asia/Shanghai").unwrap(), at).wall;
    let fields = json!({
        "device_sn": device, "customer_id": 7, "heart_rate": value, "timestamp": wall_text(wall),
        "received_at": at,
    });
    let judged = engine.evaluate(0, &reading(fields), &Routed::Somebody);
    assert_eq!(judged.outcome, ReadingOutcome::Evaluated);
    said(&judged.changes)
}

/// Returns the transitions: device, transition, time, and whether it is notified.
fn said(changes: &[Change]) -> Vec<String> {
    let one = |change: &Change| {
        let (to, notify) = (change.transition.to.as_str(), change.transition.notify);
        let second = (change.at.ms - HOUR_MS) / 1000;
        format!("{} {to} {second}{}", change.device_sn, if notify { " told" } else { "" })
    };
    changes.iter().map(one).collect()
}

/// Lets another device be seen every minute during a period of seconds.
fn others(engine: &mut Engine, from: i64, to: i64) -> Vec<String> {
    let minutes = (from..=to).step_by(60);
    minutes.flat_map(|second| heard(engine, "B", second, 80)).collect()
}

#[test]
fn a_silent_device_is_missed_once_and_its_next_reading_ends_it() {
    let mut engine = engine(&rules(json!({})));
    assert!(heard(&mut engine, "A", 0, 80).is_empty());
    assert_eq!(others(&mut engine, 0, 1_200), ["A opened 300 told"]);
    assert_eq!(heard(&mut engine, "A", 1_210, 80), ["A resolved 1210 told"]);
    assert!(others(&mut engine, 1_220, 1_460).is_empty());
    assert_eq!(engine.open_episodes().values().sum::<u64>(), 0);
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
        heard(&mut engine, "A", 0, 80);
        for second in (60..=240).step_by(60) {
            heard(&mut engine, "B", second, 80);
            if second <= until {
                let late = engine.evaluate(0, &repeated(second), &Routed::Somebody);
                assert_eq!(late.outcome, ReadingOutcome::Late);
            }
        }
        let opened = engine.tick(0, HOUR_MS + 306_000, &Routed::Somebody).0;
        assert_eq!(said(&opened), ["A opened 300 told"]);
        assert_eq!(opened[0].silence, silence, "it repeats until {until} s");
    }
}

#[test]
fn nobody_is_missed_when_nobody_is_heard() {
    let mut engine = engine(&rules(json!({})));
    heard(&mut engine, "A", 0, 80);
    heard(&mut engine, "B", 10, 80);
    let now = HOUR_MS + 3_600_000;
    assert!(engine.overdue(now).is_empty(), "wall time alone says nothing");
    assert!(heard(&mut engine, "B", 3_600, 80).is_empty(), "the gateway was away");
    assert_eq!(others(&mut engine, 3_660, 4_000), ["A opened 3900 told"]);
}

#[test]
fn wall_time_notices_what_the_next_record_would_show() {
    let mut engine = engine(&rules(json!({})));
    heard(&mut engine, "A", 0, 80);
    others(&mut engine, 0, 290);
    assert!(engine.overdue(HOUR_MS + 304_000).is_empty(), "a reading may be under way");
    let now = HOUR_MS + 306_000;
    assert_eq!(engine.overdue(now), [0]);
    assert_eq!(said(&engine.tick(0, now, &Routed::Somebody).0), ["A opened 300 told"]);
    assert!(engine.overdue(now).is_empty() && others(&mut engine, 310, 600).is_empty());
}

#[test]
fn a_restart_changes_neither_what_is_missed_nor_when() {
    let rules = rules(json!({}));
    for restart in [0, 120, 290, 310, 900] {
        let mut engine = engine(&rules);
        let mut all = heard(&mut engine, "A", 0, 80);
        for second in (0..=1_200).step_by(10) {
            if second == restart {
                let stored = engine.as_stored(0);
                engine = Engine::default();
                engine.set_rules(Arc::clone(&rules));
                engine.load(0, stored);
                engine.realign(0);
            }
            all.extend(heard(&mut engine, "B", second, 80));
        }
        all.extend(heard(&mut engine, "A", 1_210, 80));
        assert_eq!(all, ["A opened 300 told", "A resolved 1210 told"], "restart at {restart}");
    }
}

#[test]
fn a_changed_rule_starts_counting_anew() {
    let mut engine = engine(&rules(json!({})));
    heard(&mut engine, "A", 0, 80);
    others(&mut engine, 0, 360);
    engine.set_rules(rules_from(360, json!({"version": 2, "cooldown_seconds": 0})));
    assert_eq!(said(&engine.realign(0)), ["A superseded 360"]);
    assert_eq!(others(&mut engine, 420, 780), ["A opened 660 told"]);
}

#[test]
fn an_absence_is_told_within_the_effective_hours_and_escalates_while_it_lasts() {
    // The hour begins at 04:00 UTC. The engine of these tests dates missing data in UTC.
    let mut by_night = engine(&rules(json!({"effective_time_start": "04:10:00"})));
    heard(&mut by_night, "A", 0, 80);
    assert_eq!(others(&mut by_night, 0, 900), ["A opened 600 told"]);
    let escalation = json!([{"after_seconds": 600, "to": "critical"}]);
    let mut engine = engine(&rules(json!({"escalation": escalation})));
    heard(&mut engine, "A", 0, 80);
    assert_eq!(others(&mut engine, 0, 1_800), ["A opened 300 told", "A escalated 900 told"]);
}

#[test]
fn an_episode_whose_device_falls_silent_closes_as_stale_and_is_told_once() {
    let fields = json!({
        "rule_category": "SINGLE", "physical_sign": "heart_rate", "threshold_max": 100,
        "stale_after_seconds": 600,
    });
    let mut engine = engine(&rules(fields));
    assert_eq!(heard(&mut engine, "A", 0, 120), ["A opened 0 told"]);
    assert_eq!(heard(&mut engine, "A", 200, 120), [""; 0]);
    assert_eq!(others(&mut engine, 0, 2_000), ["A stale 800 told"]);
    assert_eq!(heard(&mut engine, "A", 2_010, 80), [""; 0], "it is over");
    assert_eq!(heard(&mut engine, "A", 2_020, 120), ["A opened 2020 told"]);
}

#[test]
fn a_device_out_of_service_is_missed_only_after_it_was_heard_again() {
    let mut engine = engine(&Arc::default());
    heard(&mut engine, "A", 0, 80);
    let later = 8 * 86_400;
    heard(&mut engine, "B", later, 80);
    engine.set_rules(rules_from(later, json!({})));
    engine.realign(0);
    assert!(others(&mut engine, later + 60, later + 900).is_empty());
    heard(&mut engine, "A", later + 910, 80);
    let opened = format!("A opened {} told", later + 1_210);
    assert_eq!(others(&mut engine, later + 960, later + 1_300), [opened]);
}

#[test]
fn an_absence_that_nobody_could_be_told_of_is_told_later_though_the_device_stays_silent() {
    let mut engine = engine(&rules(json!({"cooldown_seconds": 3_600})));
    heard(&mut engine, "A", 0, 80);
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
    let told = look(426, &Routed::Somebody);
    assert_eq!(said(&told), ["A notified 426 told"]);
    let silence = Measurement { vital: Vital::NoData, value: 426.0 };
    assert!(matches!(told[0].verdict, Verdict::Breach { measured, .. } if measured == silence));
    assert!(look(540, &Routed::Somebody).is_empty(), "once");
}

#[test]
fn an_absence_that_ends_while_it_is_owed_is_told_to_nobody() {
    let mut engine = engine(&rules(json!({})));
    heard(&mut engine, "A", 0, 80);
    others(&mut engine, 0, 290);
    let silenced = Routed::Nobody(OwedReason::Silenced);
    assert_eq!(said(&engine.tick(0, HOUR_MS + 306_000, &silenced).0), ["A opened 300"]);
    assert_eq!(heard(&mut engine, "A", 320, 80), ["A resolved 320"]);
    assert!(engine.look(0, HOUR_MS + 400_000, true, &Routed::Somebody).0.is_empty());
}

#[test]
fn a_reminder_of_an_absence_counts_from_the_look_that_told_it() {
    let mut engine = engine(&rules(json!({"cooldown_seconds": 0, "repeat_interval_seconds": 120})));
    heard(&mut engine, "A", 0, 80);
    others(&mut engine, 0, 290);
    let silenced = Routed::Nobody(OwedReason::Silenced);
    assert_eq!(engine.tick(0, HOUR_MS + 306_000, &silenced).0.len(), 1);
    let told = engine.look(0, HOUR_MS + 366_000, true, &Routed::Somebody).0;
    assert_eq!(said(&told), ["A notified 366 told"]);
    assert_eq!(others(&mut engine, 370, 610), ["A notified 486 told", "A notified 606 told"]);
}

#[test]
fn after_a_restart_an_owed_absence_is_neither_dated_back_nor_reminded_of_many_times() {
    let rules = rules(json!({"cooldown_seconds": 0, "repeat_interval_seconds": 60}));
    let mut engine = engine(&rules);
    heard(&mut engine, "A", 0, 80);
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
        assert_eq!(heard(&mut engine, "B", 380, 80), [""; 0], "nothing is checked again");
        assert!(engine.look(0, HOUR_MS + 390_000, true, &Routed::Somebody).0.is_empty());
        let told = engine.look(0, HOUR_MS + 450_000, true, &Routed::Somebody).0;
        assert_eq!(said(&told), ["A notified 450 told"]);
        assert_eq!(heard(&mut engine, "B", 520, 80), ["A notified 510 told"]);
    }
}
