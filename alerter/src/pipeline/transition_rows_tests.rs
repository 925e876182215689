use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::engine::routing::{OwedReason, Routed};
use crate::engine::{Engine, StoredPartition};
use crate::notify::address::{Address, Recipient};
use crate::notify::recipients::choice::TenantContacts;
use crate::notify::wechat::{Accounts, FieldMap};
use crate::rules::Severity;
use crate::rules::index::RuleSet;
use crate::test_support::{self, heart_rate, official_account, rule};

fn recipients() -> (Contacts, Choice) {
    let accounts = Accounts::from_iter([official_account(FieldMap::default())]);
    let recipients = [("openid:o1", 5), ("openid:o2", 6)].map(|(text, user_id)| {
        let address = Address::parse(text).unwrap();
        Recipient { address, user_id }
    });
    let choice = Choice { recipients: recipients.into(), ..Choice::default() };
    let tenant = TenantContacts::new(Arc::new(accounts), HashMap::new());
    (Contacts::new(tenant, &[]), choice)
}

fn cause(reading: &Reading, offset: i64) -> Cause<'_> {
    let (reading, since) = (Some(reading), SystemTime::now());
    Cause { reading, offset, topic: "t", context: None, since }
}

/// The results of three readings that open an episode, escalate it and end it.
fn stretch((contacts, choice): &(Contacts, Choice), routed: Routed) -> PartitionBatch {
    let escalation = json!({"escalation": [{"after_seconds": 60, "to": "critical"}]});
    let mut engine = Engine::default();
    engine.set_rules(Arc::new(RuleSet::new(vec![rule(escalation)])));
    engine.load(3, StoredPartition::default());
    let mut stretch = PartitionBatch::new(3, 1, 10);
    for (offset, second, value) in [(10, 0, 110), (12, 60, 120), (13, 70, 90)] {
        let reading = heart_rate(second, value);
        stretch.pass(offset);
        let cause = cause(&reading, offset);
        for change in engine.evaluate(3, &reading, &routed).changes {
            let rule = change.rule.clone().unwrap();
            stretch.suppress(&change);
            stretch.add(&change, &rule, &cause, contacts, choice);
        }
    }
    stretch
}

#[test]
fn an_episode_becomes_one_alert_its_changes_and_a_notice_to_each_recipient() {
    let stretch = stretch(&recipients(), Routed::Somebody);
    let [opened] = &stretch.opened[..] else { panic!("{:?}", stretch.opened) };
    assert_eq!(opened.health_id, Some(3 * OFFSETS_MAX + 10));
    let occur_at = wall_text(opened.opening.at.wall);
    assert_eq!((occur_at.as_str(), opened.measured.value), ("2025-09-02 12:00:00", 110.0));
    let changed = |(key, change): &(EpisodeKey, AlertChange)| match change {
        AlertChange::Severity(severity) => (key.clone(), severity.as_str().to_owned()),
        AlertChange::Resolved(at) => (key.clone(), at.clone()),
        AlertChange::Closed(word) => (key.clone(), (*word).to_owned()),
        AlertChange::People(_) => (key.clone(), String::new()),
    };
    let changes: Vec<_> = stretch.changed.iter().map(changed).collect();
    let key = opened.key.clone();
    assert_eq!(changes, [(key.clone(), "critical".into()), (key, "2025-09-02 12:01:10".into())]);
    let expected = [
        (0, TransitionKind::Opened, "openid:o1".to_owned()),
        (0, TransitionKind::Opened, "openid:o2".to_owned()),
        (1, TransitionKind::Escalated, "all notified".to_owned()),
        (1, TransitionKind::Escalated, "openid:o1".to_owned()),
        (1, TransitionKind::Escalated, "openid:o2".to_owned()),
        (2, TransitionKind::Resolved, "all notified".to_owned()),
    ];
    assert_eq!(entries(&stretch), expected);
    let first = &stretch.notifications[0];
    let Whom::Recipient(recipient, _) = &first.whom else { panic!("no recipient") };
    assert_eq!((first.notice.severity, recipient.user_id), (Severity::Major, 5));
    assert_eq!(first.event_ms, heart_rate(0, 110).epoch_ms());
}

/// The notifications: number, transition, and whom they are for.
fn entries(stretch: &PartitionBatch) -> Vec<(u32, TransitionKind, String)> {
    let shown = |one: &NewNotification| {
        let whom = match &one.whom {
            Whom::Recipient(recipient, _) => recipient.address.to_string(),
            Whom::Notified { .. } => "all notified".to_owned(),
        };
        (one.transition_seq, one.notice.transition, whom)
    };
    stretch.notifications.iter().map(shown).collect()
}

#[test]
fn the_same_readings_become_the_same_bytes() {
    let bytes = |stretch: PartitionBatch| -> Vec<_> {
        let payload = |one: NewNotification| match one.whom {
            Whom::Recipient(_, payload) => Some(payload),
            Whom::Notified { .. } => None,
        };
        stretch.notifications.into_iter().filter_map(payload).collect()
    };
    let once = bytes(stretch(&recipients(), Routed::Somebody));
    assert_eq!(once, bytes(stretch(&recipients(), Routed::Somebody)));
    let distinct: std::collections::HashSet<_> = once.iter().collect();
    assert_eq!(distinct.len(), 4);
}

#[test]
fn an_alert_stands_though_nobody_can_be_notified_and_that_is_counted() {
    let no_account = Routed::Nobody(OwedReason::NoAccount);
    let stretch = stretch(&(Contacts::default(), Choice::default()), no_account);
    assert_eq!(stretch.opened.len(), 1);
    // Those who were notified before hear of the rise. Here, none was.
    let expected = [(1, TransitionKind::Escalated, "all notified".to_owned())];
    assert_eq!(entries(&stretch), expected);
    // Counts the opening and the escalation on the day of the reading. An end without a notified
    // opening does not count.
    let day = jiff::civil::date(2025, 9, 2);
    assert_eq!(stretch.suppressed, [(day, 1, 7, "no_account"); 2]);
}

#[test]
fn the_alerts_of_one_reading_are_one_moment_and_their_requests_are_built_later() {
    let rules = [
        json!({"cooldown_seconds": 0}),
        json!({"id": 2, "physical_sign": "blood_oxygen", "threshold_max": null,
            "threshold_min": 90, "cooldown_seconds": 0}),
    ];
    let mut engine = Engine::default();
    engine.set_rules(Arc::new(RuleSet::new(rules.map(rule))));
    engine.load(3, StoredPartition::default());
    let (contacts, choice) = recipients();
    let mut batch = PartitionBatch::new(3, 1, 10);
    // Opens one alert, then the other one. Then ends both, and opens both again.
    let vitals = [(110, 97), (110, 85), (80, 97), (110, 85)];
    for (offset, (heart_rate, blood_oxygen)) in (10..).zip(vitals) {
        let reading = test_support::reading(json!({
            "device_sn": "ABCDE25100000001", "customer_id": 7, "heart_rate": heart_rate,
            "blood_oxygen": blood_oxygen, "timestamp": format!("2025-09-02 12:00:{offset}"),
        }));
        let from = batch.notifications.len();
        for change in engine.evaluate(3, &reading, &Routed::Somebody).changes {
            let rule = change.rule.clone().unwrap();
            batch.add(&change, &rule, &cause(&reading, offset), &contacts, &choice);
        }
        batch.fold(from);
    }
    let has_request = |one: &NewNotification| match &one.whom {
        Whom::Recipient(_, request) => !request.is_empty(),
        Whom::Notified { .. } => false,
    };
    let built: Vec<_> = batch.notifications.iter().map(has_request).collect();
    // Two openings to two recipients, two ends, and again two openings to two recipients.
    assert_eq!(built, [[true; 4].as_slice(), &[false; 2], &[false; 4]].concat());
    assert_eq!(batch.moments.len(), 2, "{:?}", batch.moments);
}

#[test]
fn the_text_about_a_missing_device_says_what_is_wrong_with_it() {
    let fields = json!({"rule_category": "NO_DATA", "physical_sign": null, "threshold_max": null});
    let mut engine = Engine::default();
    engine.set_rules(Arc::new(RuleSet::new(vec![rule(fields)])));
    engine.load(3, StoredPartition::default());
    engine.realign(3);
    let reading = heart_rate(0, 80);
    engine.evaluate(3, &reading, &Routed::Somebody);
    let (changes, _) = engine.tick(3, reading.epoch_ms() + 306_000, &Routed::Somebody);
    let [opened] = &changes[..] else { panic!("{changes:?}") };
    let rule = opened.rule.clone().unwrap();
    let (contacts, choice) = recipients();
    for (silence, text) in [
        (Silence::Silent, "数据中断：设备已 5分 没有数据"),
        (Silence::ClockWrong, "设备时钟错误：设备已 5分 没有数据"),
    ] {
        let change = Change { silence, ..opened.clone() };
        let mut batch = PartitionBatch::new(3, 1, 10);
        batch.add(&change, &rule, &cause(&reading, 10), &contacts, &choice);
        assert_eq!(batch.notifications[0].notice.text, text);
    }
}

#[test]
fn every_offset_of_a_stretch_is_accounted_for() {
    let advance = stretch(&recipients(), Routed::Somebody).advance;
    assert_eq!((advance.from, advance.to), (10, 14));
    assert_eq!((advance.counts.processed, advance.counts.skipped_gap), (3, 1));
    assert_eq!(advance.counts.offsets(), advance.to - advance.from);
}

#[test]
fn what_reaches_no_one_after_its_silence_is_shown_on_the_watch_then() {
    let mut engine = Engine::default();
    engine.set_rules(Arc::new(RuleSet::new(vec![rule(json!({}))])));
    engine.load(3, StoredPartition::default());
    engine.evaluate(3, &heart_rate(0, 110), &Routed::Nobody(OwedReason::Silenced));
    let reading = heart_rate(10, 110);
    let no_account = Routed::Nobody(OwedReason::NoAccount);
    let change = engine.evaluate(3, &reading, &no_account).changes.remove(0);
    let watch = Recipient { address: Address::parse("message:5").unwrap(), user_id: 5 };
    let choice = Choice { recipients: vec![watch], ..Choice::default() };
    let mut batch = PartitionBatch::new(3, 1, 10);
    let rule = change.rule.clone().unwrap();
    batch.add(&change, &rule, &cause(&reading, 10), &Contacts::default(), &choice);
    assert_eq!(entries(&batch), [(1, TransitionKind::Notified, "message:5".to_owned())]);
}
