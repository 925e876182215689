use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ljwx_reading::{DeviceSn, Ids};
use serde_json::json;

use crate::engine::episode::TransitionKind;
use crate::engine::outcome::CHANGES_MAX;
use crate::engine::routing::{OwedReason, Routed, Router};
use crate::engine::{
    Arrival, Change, Engine, OwedEpisode, ReadingOutcome, StateChanges, StoredPartition,
};
use crate::rules::index::RuleSet;
use crate::rules::{Measurement, Rule, Severity, Verdict, Vital};
use crate::test_support::{heart_rate, reading, rule};

fn engine(rules: Vec<Rule>) -> Engine {
    let mut engine = Engine::default();
    engine.set_rules(Arc::new(RuleSet::new(rules)));
    engine.load(0, StoredPartition::default());
    engine
}

const NOBODY: Routed = Routed::Nobody(OwedReason::NoRecipient);

const SILENCED: Routed = Routed::Nobody(OwedReason::Silenced);

#[test]
fn what_could_not_be_notified_stays_owed_in_the_state_until_it_is_notified() {
    let mut engine = engine(vec![rule(json!({}))]);
    let opened = engine.evaluate(0, &heart_rate(0, 110), &NOBODY).changes.remove(0);
    assert_eq!((opened.transition.notify, opened.transition.routed), (false, Some(NOBODY)));
    drop(engine.take_changes(0));
    assert!(engine.evaluate(0, &heart_rate(5, 110), &NOBODY).changes.is_empty());
    let stored = engine.as_stored(0);
    engine.forget(0);
    engine.load(0, stored);
    let owed = OwedEpisode {
        customer_id: Some(7),
        severity: Severity::Major,
        reason: OwedReason::NoRecipient,
    };
    assert_eq!(engine.owed().collect::<Vec<_>>(), [owed]);
    let again = engine.evaluate(0, &heart_rate(10, 110), &Routed::Somebody).changes.remove(0);
    assert_eq!((again.transition.to, again.transition.notify), (TransitionKind::Notified, true));
    assert!(again.transition.on_watch && !again.transition.follow_up);
    assert_eq!(engine.open_episodes()[&Severity::Major], 1);
    assert!(engine.owed().next().is_none());
}

/// Returns the transitions of a look, `second` seconds into the hour.
fn looked(engine: &mut Engine, second: i64, router: &dyn Router) -> Vec<(TransitionKind, i64)> {
    let hour_ms = heart_rate(0, 80).epoch_ms();
    let (changes, unknown) = engine.look(0, hour_ms + second * 1000, true, router);
    assert!(unknown.is_empty());
    let at = |change: &Change| (change.at.ms - hour_ms) / 1000;
    changes.iter().map(|change| (change.transition.to, at(change))).collect()
}

#[test]
fn of_many_that_are_owed_a_look_notifies_some_and_the_next_one_the_others() {
    let mut engine = engine(vec![rule(json!({}))]);
    for device in 0..=CHANGES_MAX {
        let breach = reading(json!({
            "device_sn": format!("A{device}"), "customer_id": 7, "heart_rate": 110,
            "timestamp": "2025-09-02 12:00:00",
        }));
        assert_eq!(engine.evaluate(0, &breach, &NOBODY).changes.len(), 1);
    }
    let notified = [60, 61].map(|second| looked(&mut engine, second, &Routed::Somebody).len());
    assert_eq!(notified, [CHANGES_MAX, 1]);
}

#[test]
fn what_is_owed_is_tried_once_a_minute_without_any_reading_and_notified_with_its_last_value() {
    let mut engine = engine(vec![rule(json!({}))]);
    engine.evaluate(0, &heart_rate(0, 110), &SILENCED);
    engine.evaluate(0, &heart_rate(30, 120), &SILENCED);
    drop(engine.take_changes(0));
    assert!(looked(&mut engine, 89, &Routed::Somebody).is_empty(), "the last try was a breach");
    assert!(looked(&mut engine, 90, &SILENCED).is_empty());
    assert_eq!(engine.take_changes(0), StateChanges::default(), "a try in vain writes nothing");
    assert!(looked(&mut engine, 149, &Routed::Somebody).is_empty());
    let hour_ms = heart_rate(0, 80).epoch_ms();
    let (notified, _) = engine.look(0, hour_ms + 150_000, true, &Routed::Somebody);
    let [notified] = &notified[..] else { panic!("{notified:?}") };
    assert_eq!((notified.transition.to, notified.transition.seq), (TransitionKind::Notified, 1));
    let value = Measurement { vital: Vital::HeartRate, value: 120.0 };
    let verdict = notified.verdict;
    assert!(matches!(verdict, Verdict::Breach { measured, bound: 100.0, .. } if measured == value));
    assert_eq!(engine.take_changes(0).tracked.len(), 1);
    assert!(looked(&mut engine, 1_000, &Routed::Somebody).is_empty(), "once");
    let end = engine.evaluate(0, &heart_rate(40, 90), &Routed::Somebody).changes.remove(0);
    assert!(end.transition.notify && end.transition.follow_up);
}

#[test]
fn a_restart_begins_the_wait_of_what_is_owed_anew() {
    let mut engine = engine(vec![rule(json!({}))]);
    engine.evaluate(0, &heart_rate(0, 110), &SILENCED);
    let stored = engine.as_stored(0);
    engine.load(0, stored);
    engine.realign(0);
    assert!(looked(&mut engine, 600, &Routed::Somebody).is_empty());
    assert_eq!(looked(&mut engine, 660, &Routed::Somebody), [(TransitionKind::Notified, 660)]);
}

#[test]
fn a_changed_rule_owes_nothing_of_its_former_version() {
    let mut engine = engine(vec![rule(json!({}))]);
    engine.evaluate(0, &heart_rate(0, 110), &SILENCED);
    engine.set_rules(Arc::new(RuleSet::new(vec![rule(json!({"version": 2}))])));
    engine.realign(0);
    assert!(engine.owed().next().is_none());
}

/// Knows people once they are looked up.
struct Known(BTreeSet<Ids>);

impl Router for Known {
    fn route(&self, ids: Ids, _: &DeviceSn, _: &Rule) -> Option<Routed> {
        self.0.contains(&ids).then_some(Routed::Somebody)
    }
}

#[test]
fn people_are_looked_up_only_when_a_notification_is_due_and_before_anything_changes() {
    let slow = json!({"id": 2, "trend_duration": 2});
    let mut engine = engine(vec![rule(json!({})), rule(slow)]);
    let mut router = Known(BTreeSet::new());
    assert!(engine.evaluate(0, &heart_rate(0, 90), &router).unknown.is_empty());

    let breach = heart_rate(10, 110);
    let mut evaluated = engine.evaluate(0, &breach, &router);
    assert_eq!(evaluated.unknown, BTreeSet::from([breach.ids()]));
    assert!(evaluated.changes.is_empty() && engine.states() == 0);
    router.0.insert(breach.ids());
    engine.resume(0, &breach, &router, &mut evaluated);
    assert!(evaluated.unknown.is_empty());
    assert_eq!((evaluated.breaches, evaluated.changes.len()), (2, 1));
    assert!(evaluated.changes[0].transition.notify);

    router.0.clear();
    let again = engine.evaluate(0, &heart_rate(15, 90), &router);
    assert!(again.unknown.is_empty() && again.changes.len() == 1, "an end asks nobody");
}

#[test]
fn devices_that_fall_silent_together_are_looked_up_together() {
    let silent = json!({
        "rule_category": "NO_DATA", "physical_sign": null, "threshold_max": null,
        "time_window_seconds": 300,
    });
    let mut engine = engine(vec![rule(silent)]);
    engine.realign(0);
    let of_device = |device: &str, user: i64, second: i64| {
        let hour_ms = heart_rate(0, 80).epoch_ms();
        reading(json!({
            "device_sn": device, "customer_id": 7, "user_id": user, "heart_rate": 80,
            "timestamp": format!("2025-09-02 12:{:02}:{:02}", second / 60, second % 60),
            "received_at": hour_ms + second * 1000,
        }))
    };
    let mut router = Known(BTreeSet::new());
    for (device, user) in [("A1", 1), ("A2", 2), ("A3", 3)] {
        engine.evaluate(0, &of_device(device, user, 0), &router);
    }
    for second in (60..300).step_by(60) {
        assert!(engine.evaluate(0, &of_device("A3", 3, second), &router).unknown.is_empty());
    }
    let last = of_device("A3", 3, 310);
    let mut evaluated = engine.evaluate(0, &last, &router);
    let users: Vec<_> = evaluated.unknown.iter().filter_map(|ids| ids.user_id).collect();
    assert_eq!((users, evaluated.changes.len()), (vec![1, 2], 0));
    router.0.extend(evaluated.unknown.clone());
    engine.resume(0, &last, &router, &mut evaluated);
    assert_eq!((evaluated.unknown.len(), evaluated.changes.len()), (0, 2));
}

#[test]
fn a_rule_without_a_channel_owes_nothing_and_starts_no_cooldown() {
    let mut engine = engine(vec![rule(json!({"enabled_channels": ["sms"]}))]);
    for (second, value, transitions) in [(0, 110, 1), (10, 111, 0), (20, 90, 1), (30, 110, 1)] {
        let changes = engine.evaluate(0, &heart_rate(second, value), &Routed::Somebody).changes;
        assert_eq!(changes.len(), transitions, "{second}");
        let notify = changes.iter().any(|change| change.transition.notify);
        assert!(!notify && engine.owed().next().is_none(), "{second}");
        let opened = changes.iter().find(|change| change.transition.to == TransitionKind::Opened);
        let no_channel = Some(Routed::NoChannel);
        assert!(opened.is_none_or(|opened| opened.transition.routed == no_channel), "{second}");
    }
}

#[test]
fn a_late_reading_makes_a_rule_without_a_channel_owe_nothing() {
    let mut engine = engine(vec![rule(json!({"enabled_channels": ["log"]}))]);
    let reading = heart_rate(0, 110);
    let arrival = Arrival::from(&reading);
    let late = Arrival { evaluated_ms: arrival.evaluated_ms + 86_400_000, ..arrival };
    let opened = engine.evaluate(0, late, &Routed::Somebody).changes.remove(0);
    assert_eq!(opened.transition.routed, Some(Routed::NoChannel));
    assert!(engine.owed().next().is_none());
}

#[test]
fn while_records_wait_a_look_tries_nothing_that_they_may_have_ended() {
    let mut engine = engine(vec![rule(json!({}))]);
    let reading = heart_rate(0, 110);
    let arrival = Arrival::from(&reading);
    let behind_ms = 7_200_000;
    let late = Arrival { evaluated_ms: arrival.evaluated_ms + behind_ms, ..arrival };
    engine.evaluate(0, late, &Routed::Somebody);
    let now_ms = late.evaluated_ms + 60_000;
    assert!(engine.due_looks(now_ms - 1).is_empty());
    assert_eq!(engine.due_looks(now_ms), BTreeMap::from([(0, false)]));
    let look = |engine: &mut Engine, at_end| engine.look(0, now_ms, at_end, &Routed::Somebody).0;
    assert!(look(&mut engine, false).is_empty(), "the record of its end may wait");
    // A record of now shows that none waits.
    let mut current = engine;
    let now = Arrival { kafka_ms: now_ms, evaluated_ms: now_ms, ..arrival };
    let outcome = current.evaluate(0, now, &Routed::Somebody).outcome;
    assert_eq!(outcome, ReadingOutcome::Late);
    assert_eq!(current.due_looks(now_ms), BTreeMap::from([(0, true)]));
    let notified = look(&mut current, false);
    assert!(notified.len() == 1 && notified[0].transition.delayed, "{notified:?}");
}

#[test]
fn a_silenced_episode_is_tried_though_records_wait() {
    let mut engine = engine(vec![rule(json!({}))]);
    let opening = heart_rate(0, 110);
    engine.evaluate(0, &opening, &SILENCED);
    let now_ms = opening.received_at_ms() + 3_600_000;
    let (notified, _) = engine.look(0, now_ms, false, &Routed::Somebody);
    assert_eq!(notified.len(), 1);
}
