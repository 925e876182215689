use ljwx_reading::Reading;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::engine::episode::TransitionKind;
use crate::engine::journal::{self, JournalBatch, JournalSize};
use crate::engine::no_data::partition_clock::PartitionClock;
use crate::engine::routing::{OwedReason, Routed};
use crate::rules::Rule;
use crate::test_support::{heart_rate, object, reading, rule};

impl Default for Engine {
    fn default() -> Self {
        Self::new(TimeZone::UTC, DeviceLimits::default())
    }
}

impl Engine {
    /// Like [`Self::pass`], where record times and the wall clock agree.
    pub fn tick(&mut self, partition: i32, now_ms: i64, router: &dyn Router) -> Progress {
        let clock_ms = self.partitions.get(&partition).map_or(0, |one| one.clock.clock_ms());
        self.pass(partition, now_ms - clock_ms, now_ms, router)
    }

    /// Returns a partition as a restart loads it: written, and read back.
    pub fn as_stored(&self, partition: i32) -> StoredPartition {
        let partition = &self.partitions[&partition];
        let mut devices = partition.devices.clone();
        let batch = JournalBatch::new(partition.devices.iter(), true);
        for one in batch.rows.iter().flat_map(|row| journal::read(&row.text)) {
            let (sn, read) = one.expect("its own form");
            devices.entry(sn).or_default().take_times(read);
        }
        for device in devices.values_mut() {
            (device.moved, device.is_bound) = (false, false);
            for tracked in device.tracked.values_mut() {
                let text = serde_json::to_string(tracked).expect("plain structs");
                let version = tracked.version;
                *tracked =
                    RuleState { version, ..serde_json::from_str(&text).expect("its own form") };
            }
        }
        let clock = &partition.clock;
        let clock = PartitionClock::stored(clock.clock_ms(), clock.since());
        StoredPartition { devices, journal: partition.journal, clock }
    }
}

fn engine(rules: Vec<Rule>) -> Engine {
    let mut engine = Engine::default();
    engine.set_rules(Arc::new(RuleSet::new(rules)));
    engine.load(0, StoredPartition::default());
    engine
}

/// Returns the state of partition 0, as MySQL would hold it.
fn state(engine: &Engine) -> Devices {
    engine.partitions[&0].devices.clone()
}

#[test]
fn late_is_late_before_and_after_a_restart_and_under_a_new_rule() {
    let mut engine = engine(vec![rule(json!({}))]);
    assert_eq!(
        engine.evaluate(0, &heart_rate(60, 90), &Routed::Somebody).outcome,
        ReadingOutcome::Evaluated
    );
    assert_eq!(
        engine.evaluate(0, &heart_rate(60, 150), &Routed::Somebody).outcome,
        ReadingOutcome::Late
    );

    let changes = engine.take_changes(0);
    assert_eq!((changes.journal.rows.len(), changes.tracked.len()), (1, 0));
    let stored = state(&engine);
    engine.forget(0);
    engine.load(0, StoredPartition { devices: stored, ..StoredPartition::default() });
    engine.set_rules(Arc::new(RuleSet::new(vec![rule(json!({"id": 2, "threshold_max": 50}))])));
    let evaluated = engine.evaluate(0, &heart_rate(30, 150), &Routed::Somebody);
    assert_eq!((evaluated.outcome, evaluated.changes.len()), (ReadingOutcome::Late, 0));
    assert_eq!(engine.take_changes(0), StateChanges::default());
}

#[test]
fn a_journal_that_has_become_long_is_written_as_a_whole_and_grows_again() {
    let mut first = engine(vec![rule(json!({}))]);
    for device in ["A1", "A2"] {
        first.evaluate(
            0,
            &reading(json!({
                "device_sn": device, "timestamp": "2025-09-02 12:00:00", "heart_rate": 80,
            })),
            &Routed::Somebody,
        );
    }
    let entry = first.take_changes(0).journal;
    assert_eq!((entry.whole, entry.rows[0].lines), (false, 2));
    let devices = state(&first);

    let mut engine = engine(vec![rule(json!({}))]);
    let journal = JournalSize { lines: 100_000, rows: 100 };
    engine.load(0, StoredPartition { devices, journal, ..StoredPartition::default() });
    assert!(!engine.take_changes(0).journal.whole, "not while nobody is heard");
    let mut lines = |second: u32| {
        engine.evaluate(0, &reading(json!({
            "device_sn": "A1", "timestamp": format!("2025-09-02 12:00:{second}"), "heart_rate": 80,
        })), &Routed::Somebody);
        let entry = engine.take_changes(0).journal;
        (entry.whole, entry.rows.iter().map(|row| row.lines).sum::<usize>())
    };
    assert_eq!(lines(10), (true, 2));
    assert_eq!(lines(20), (false, 1));
}

#[test]
fn readings_of_one_second_with_different_signs_both_count() {
    let oxygen = json!({"id": 2, "physical_sign": "blood_oxygen", "threshold_max": null, "threshold_min": 90});
    let mut engine = engine(vec![rule(json!({})), rule(oxygen)]);
    let second = |fields: Value| {
        let mut all = object(
            json!({"device_sn": "A1", "customer_id": 7, "timestamp": "2025-09-02 12:00:00"}),
        );
        all.extend(object(fields));
        reading(Value::Object(all))
    };
    assert_eq!(
        engine.evaluate(0, &second(json!({"blood_oxygen": 80})), &Routed::Somebody).changes.len(),
        1
    );
    assert_eq!(
        engine.evaluate(0, &second(json!({"heart_rate": 120})), &Routed::Somebody).changes.len(),
        1
    );
    assert_eq!(
        engine.evaluate(0, &second(json!({"heart_rate": 90})), &Routed::Somebody).outcome,
        ReadingOutcome::Late
    );
}

#[test]
fn a_reading_ahead_of_the_clock_moves_nothing() {
    let mut engine = engine(vec![rule(json!({}))]);
    let ahead = reading(json!({
        "device_sn": "ABCDE25100000001", "customer_id": 7, "heart_rate": 150,
        "timestamp": "2025-09-02 23:00:00", "received_at": 1_756_785_600_000_i64,
    }));
    assert_eq!(engine.evaluate(0, &ahead, &Routed::Somebody).outcome, ReadingOutcome::AheadOfClock);
    assert_eq!(engine.evaluate(0, &heart_rate(0, 150), &Routed::Somebody).changes.len(), 1);
}

#[test]
fn a_changed_rule_neither_fires_nor_resolves_and_closes_what_was_open() {
    let mut engine = engine(vec![rule(json!({}))]);
    engine.evaluate(0, &heart_rate(0, 110), &Routed::Somebody);
    drop(engine.take_changes(0));

    engine
        .set_rules(Arc::new(RuleSet::new(vec![rule(json!({"version": 2, "threshold_max": 105}))])));
    let changes = engine.realign(0);
    assert_eq!(changes.len(), 1);
    assert_eq!(
        (changes[0].transition.to, changes[0].rule_version),
        (TransitionKind::Superseded, 1)
    );
    let written = engine.take_changes(0).tracked;
    assert!(matches!(&written[..], [(1, _, Some(RuleState { version: 2, .. }))]), "{written:?}");
    assert!(engine.realign(0).is_empty());

    let changes = engine.evaluate(0, &heart_rate(60, 110), &Routed::Somebody).changes;
    let [opened] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!(
        (opened.transition.to, opened.transition.notify),
        (TransitionKind::Opened, false),
        "in the cooldown"
    );
}

/// Returns a heart rate of the device of [`heart_rate`], of which neither wearer nor tenant is known.
fn of_nobody(second: u32, value: i32) -> Reading {
    reading(json!({
        "device_sn": "ABCDE25100000001", "heart_rate": value,
        "timestamp": format!("2025-09-02 12:{:02}:{:02}", second / 60, second % 60),
    }))
}

#[test]
fn an_episode_of_a_tenant_goes_on_with_readings_of_nobody_and_ends() {
    let repeated = json!({"cooldown_seconds": 0, "repeat_interval_seconds": 10});
    let mut engine = engine(vec![rule(repeated)]);
    let mut made = |reading: &Reading| -> Vec<_> {
        let changes = engine.evaluate(0, reading, &Routed::Somebody).changes;
        let said = |change: &Change| {
            (change.transition.to, change.transition.notify, change.ids.customer_id)
        };
        changes.iter().map(said).collect()
    };
    let opened = (TransitionKind::Opened, true, Some(7));
    let reminded = (TransitionKind::Notified, true, Some(7));
    let resolved = (TransitionKind::Resolved, true, Some(7));
    assert_eq!(made(&heart_rate(0, 110)), [opened]);
    assert_eq!(made(&of_nobody(20, 120)), [reminded]);
    assert_eq!(made(&of_nobody(30, 90)), [resolved]);
    assert!(made(&of_nobody(40, 120)).is_empty(), "the rule is the tenant's own");
}

#[test]
fn what_is_owed_stays_owed_to_the_people_of_its_tenant() {
    let mut engine = engine(vec![rule(json!({"customer_id": 0}))]);
    let nobody = Routed::Nobody(OwedReason::NoRecipient);
    engine.evaluate(0, &heart_rate(0, 110), &nobody);
    drop(engine.take_changes(0));
    engine.evaluate(0, &of_nobody(30, 120), &nobody);
    assert!(engine.take_changes(0).people.is_empty());
    let later_ms = heart_rate(30, 80).epoch_ms() + 600_000;
    let (notified, _) = engine.look(0, later_ms, true, &Routed::Somebody);
    let [notified] = &notified[..] else { panic!("{notified:?}") };
    assert_eq!(notified.ids.customer_id, Some(7));
}

#[test]
fn a_changed_rule_forgets_since_when_its_conditions_held() {
    let version = |version: i64| {
        let condition = json!({
            "physical_sign": "heart_rate", "operator": ">", "threshold": 100, "duration_seconds": 60,
        });
        let fields = json!({
            "rule_category": "COMPOSITE", "version": version,
            "condition_expression": {"conditions": [condition]},
        });
        Arc::new(RuleSet::new(vec![rule(fields)]))
    };
    let mut engine = Engine::default();
    engine.set_rules(version(1));
    engine.load(0, StoredPartition::default());
    engine.evaluate(0, &heart_rate(0, 110), &Routed::Somebody);
    engine.set_rules(version(2));
    engine.realign(0);
    assert!(
        engine.evaluate(0, &heart_rate(60, 110), &Routed::Somebody).changes.is_empty(),
        "60 s of the old version"
    );
    assert_eq!(engine.evaluate(0, &heart_rate(120, 110), &Routed::Somebody).changes.len(), 1);
}

#[test]
fn a_rule_that_is_gone_leaves_nothing_behind() {
    let mut engine = engine(vec![rule(json!({}))]);
    engine.evaluate(0, &heart_rate(0, 110), &Routed::Somebody);
    engine.set_rules(Arc::default());
    assert_eq!(engine.realign(0).len(), 1);
    assert!(matches!(&engine.take_changes(0).tracked[..], [(1, _, None)]));
    assert!(state(&engine).values().all(|device| device.tracked.is_empty()));
}

#[test]
fn a_disabled_own_rule_keeps_the_template_out_and_a_deleted_one_does_not() {
    let template = rule(json!({"id": 1, "customer_id": 0}));
    let disabled = rule(json!({"id": 2, "is_enabled": 0}));
    let rules = RuleSet::new(vec![template.clone(), disabled]);
    let count = |rules: &RuleSet, tenant| rules.of(tenant).iter().count();
    assert_eq!((count(&rules, 7), count(&rules, 8)), (0, 1));
    let other_type = rule(json!({"id": 2, "is_enabled": 0, "rule_type": "custom"}));
    assert_eq!(count(&RuleSet::new(vec![template, other_type]), 7), 1);
}

fn absence(window_seconds: i64) -> Rule {
    rule(json!({
        "id": 2, "rule_category": "NO_DATA", "physical_sign": null, "threshold_max": null,
        "time_window_seconds": window_seconds,
    }))
}

#[test]
fn a_replayed_reading_is_evaluated_and_ends_no_absence() {
    let mut engine = engine(vec![rule(json!({})), absence(300)]);
    engine.realign(0);
    engine.evaluate(0, &heart_rate(0, 80), &Routed::Somebody);
    let reading = heart_rate(60, 150);
    let now = reading.epoch_ms() + 246_000;
    assert_eq!(engine.tick(0, now, &Routed::Somebody).0.len(), 1);
    let replayed =
        Arrival { kafka_ms: now, evaluated_ms: now, is_replayed: true, ..Arrival::from(&reading) };
    let made = engine.evaluate(0, replayed, &Routed::Somebody).changes;
    let made: Vec<_> = made.iter().map(|change| (change.rule_id, change.transition.to)).collect();
    assert_eq!(made, [(1, TransitionKind::Opened)]);
}

#[test]
fn a_device_is_not_forgotten_before_a_rule_misses_it() {
    let limits = DeviceLimits { forget_after_ms: 3_600_000, ..DeviceLimits::default() };
    let mut engine = Engine::new(TimeZone::UTC, limits);
    engine.set_rules(Arc::new(RuleSet::new([absence(7_200)])));
    engine.load(0, StoredPartition::default());
    engine.realign(0);
    engine.evaluate(0, &heart_rate(0, 80), &Routed::Somebody);
    let mut made = Vec::new();
    for minute in (0..=120).step_by(30) {
        let at = format!("2025-09-02 {}:{:02}:00", 12 + minute / 60, minute % 60);
        let other = reading(json!({"device_sn": "B1", "heart_rate": 80, "timestamp": at}));
        made.extend(engine.evaluate(0, &other, &Routed::Somebody).changes);
        drop(engine.take_changes(0));
        made.extend(engine.forget_devices(0));
    }
    let made: Vec<_> = made.iter().map(|change| change.transition.to).collect();
    assert_eq!(made, [TransitionKind::Opened]);
}

proptest! {
    #[test]
    fn replaying_any_prefix_changes_nothing(
        values in proptest::collection::vec((0_u32..3_600, 60_i32..140), 1..60),
        replayed in 0_usize..60,
    ) {
        let stream: Vec<_> = values.iter().map(|(second, value)| heart_rate(*second, *value)).collect();
        let trend = rule(json!({"id": 2, "trend_duration": 3, "clear_max": 95, "clear_after": 2}));
        let mut engine = engine(vec![rule(json!({})), trend]);
        for reading in &stream {
            engine.evaluate(0, reading, &Routed::Somebody);
        }
        let once = state(&engine);
        for reading in stream.iter().take(replayed) {
            let evaluated = engine.evaluate(0, reading, &Routed::Somebody);
            prop_assert_eq!(evaluated.outcome, ReadingOutcome::Late);
            prop_assert!(evaluated.changes.is_empty());
        }
        prop_assert_eq!(state(&engine), once);
    }
}
