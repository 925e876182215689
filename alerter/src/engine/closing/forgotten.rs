//! Closes the episodes of devices that belong to nobody any more, or are forgotten.
//!
//! Pure. [`Partition::realign`] closes episodes whose rule changed.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use ljwx_reading::DeviceSn;

use crate::engine::closing::ends::close;
use crate::engine::device::{Device, LastSeen, RuleState, tenant};
use crate::engine::outcome::{Change, moment};
use crate::engine::partition::Partition;
use crate::rules::index::RuleSet;

impl Partition {
    /// Forgets devices without a record for `after_ms` of the partition's clock, and closes their
    /// episodes. Does nothing while a device is to be written, because places change.
    pub(in crate::engine) fn forget_devices(
        &mut self,
        after_ms: i64,
        rules: &RuleSet,
        zone: &TimeZone,
    ) -> Vec<Change> {
        let clock_ms = self.clock.clock_ms();
        let mut changes = Vec::new();
        if !self.moved.is_empty() {
            return changes;
        }
        let (at, touched) = (moment(zone, clock_ms), &mut self.touched);
        self.devices.retain(|sn, device| {
            let is_kept = !device.is_silent_for(after_ms, clock_ms);
            if !is_kept {
                let closed = std::mem::take(&mut device.tracked).into_iter();
                let close = |one| close((sn, one), rules, at, false, touched);
                changes.extend(closed.filter_map(close));
            }
            is_kept
        });
        changes
    }

    /// Returns the devices that are missing from a known wearer.
    pub(in crate::engine) fn absent_users(&self, rules: &RuleSet) -> BTreeSet<DeviceSn> {
        let is_missed = |(id, state): (&i64, &RuleState)| {
            let user_id = state.worn_by.or(state.ids.user_id);
            user_id.is_some() && state.episode.open().is_some() && is_absence(*id, state, rules)
        };
        let absent = self.devices.iter().filter(|(_, device)| device.tracked.iter().any(is_missed));
        absent.map(|(sn, _)| sn.clone()).collect()
    }

    /// Closes the absences of devices that were bound to a user and are not `worn` any more. The
    /// devices count as not seen until their next reading, so that they are not missed again.
    pub(in crate::engine) fn close_unbound(
        &mut self,
        (asked, worn): (&[DeviceSn], &BTreeSet<DeviceSn>),
        rules: &RuleSet,
        zone: &TimeZone,
    ) -> Vec<Change> {
        let at = moment(zone, self.clock.clock_ms());
        let mut changes = Vec::new();
        for sn in asked {
            let Some((place, _, device)) = self.devices.get_full_mut(sn) else { continue };
            let is_worn = worn.contains(sn);
            for (id, state) in &mut device.tracked {
                // After a restart it is not known that a device which is then found missing was bound.
                if is_worn && !state.is_bound && is_absence(*id, state, rules) {
                    state.is_bound = true;
                    self.touched.stepped.insert((*id, sn.clone()));
                }
            }
            if is_worn || !device.tracked.values().any(|state| state.is_bound) {
                continue;
            }
            device.last_seen = LastSeen::default();
            let absences = device.tracked.extract_if(.., |id, state| is_absence(*id, state, rules));
            let close = |one| close((sn, one), rules, at, false, &mut self.touched);
            changes.extend(absences.filter_map(close));
            self.devices[place].moves(place, &mut self.moved);
        }
        changes
    }
}

/// Whether the state is of a rule that watches for missing data.
fn is_absence(rule_id: i64, state: &RuleState, rules: &RuleSet) -> bool {
    let rule = rules.in_force(tenant(state.ids), rule_id);
    rule.is_some_and(|rule| rule.is_no_data())
}

impl Device {
    /// Whether the device has sent nothing for so long.
    pub(in crate::engine) fn is_silent_for(&self, after_ms: i64, clock_ms: i64) -> bool {
        clock_ms - self.last_seen.at.max(self.last_record.at) > after_ms
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::tz::TimeZone;
    use serde_json::{Value, json};

    use super::*;
    use crate::engine::episode::EpisodeKey;
    use crate::engine::routing::{OwedReason, Routed};
    use crate::engine::{Arrival, DeviceLimits, Engine, StoredPartition};
    use crate::rules::Rule;
    use crate::test_support::{merged, reading, rule};

    const MINUTE_MS: i64 = 60_000;

    fn engine(rules: Vec<Value>, limits: DeviceLimits) -> Engine {
        let mut engine = Engine::new(TimeZone::UTC, limits);
        let rules = rules.into_iter().map(rule);
        engine.set_rules(Arc::new(RuleSet::new(rules)));
        engine.load(0, StoredPartition::default());
        engine.realign(0);
        engine
    }

    fn absence() -> Value {
        json!({
            "id": 2, "rule_category": "NO_DATA", "physical_sign": null, "threshold_max": null,
            "time_window_seconds": 300,
        })
    }

    /// Evaluates a heart rate at a minute of an hour, and returns the transitions: rule, transition,
    /// user, and whether it is notified.
    fn evaluated(engine: &mut Engine, minute: i64, rate: i64, fields: Value) -> Vec<String> {
        let at = json!({
            "device_sn": "A1", "customer_id": 7, "heart_rate": rate,
            "timestamp": format!("2025-09-02 12:{minute:02}:00"),
        });
        let reading = reading(merged(at, fields));
        let changes = engine.evaluate(0, &reading, &Routed::Somebody).changes;
        changes.iter().map(said).collect()
    }

    /// Returns a transition: rule, transition, user, and `!` if it is notified.
    fn said(change: &Change) -> String {
        let notified = if change.transition.notify { "!" } else { "" };
        let user = change.ids.user_id.unwrap_or_default();
        format!("{} {} {user}{notified}", change.rule_id, change.transition.to.as_str())
    }

    #[test]
    fn another_wearer_closes_what_is_open_and_starts_over_without_a_cooldown() {
        let mut engine = engine(vec![json!({}), absence()], DeviceLimits::default());
        let worn_by = |user_id: i64| json!({"user_id": user_id});
        assert_eq!(evaluated(&mut engine, 0, 150, worn_by(11)), ["1 opened 11!"]);
        assert_eq!(evaluated(&mut engine, 1, 150, json!({})), [""; 0], "unknown is no other user");
        let unknown = json!({"customer_id": null});
        assert_eq!(evaluated(&mut engine, 1, 150, unknown), [""; 0], "nor is the tenant another");
        let changed = evaluated(&mut engine, 2, 150, worn_by(12));
        assert_eq!(changed, ["1 closed 11!", "1 opened 12!"]);
        let other = json!({"device_sn": "B1"});
        for minute in 3..8 {
            let missed = evaluated(&mut engine, minute, 80, other.clone());
            let expected = if minute == 7 { vec!["2 opened 12!"] } else { Vec::new() };
            assert_eq!(missed, expected, "at minute {minute}");
        }
        let back = evaluated(&mut engine, 8, 80, worn_by(11));
        assert_eq!(back, ["1 closed 12!", "2 closed 12!"], "missed from another wearer");
    }

    #[test]
    fn a_missing_device_that_another_person_takes_over_is_missed_from_that_person_too() {
        let mut engine = engine(vec![absence()], DeviceLimits::default());
        let mut made = Vec::new();
        for minute in 0..=11 {
            let worn_by = match minute {
                0 => Some(12),
                6 => Some(11),
                _ => None,
            };
            if let Some(user_id) = worn_by {
                made.extend(evaluated(&mut engine, minute, 80, json!({"user_id": user_id})));
            }
            made.extend(evaluated(&mut engine, minute, 80, json!({"device_sn": "B1"})));
        }
        assert_eq!(made, ["2 opened 12!", "2 closed 12!", "2 opened 11!"]);
    }

    #[test]
    fn an_episode_that_nobody_knows_of_moves_to_the_people_of_the_latest_reading() {
        let mut engine = engine(vec![json!({})], DeviceLimits::default());
        let at = |minute: i64, fields: Value| {
            reading(merged(
                json!({
                    "device_sn": "A1", "customer_id": 7, "heart_rate": 150,
                    "timestamp": format!("2025-09-02 12:{minute:02}:00"),
                }),
                fields,
            ))
        };
        let nobody = Routed::Nobody(OwedReason::NoRecipient);
        assert_eq!(engine.evaluate(0, &at(0, json!({})), &nobody).changes.len(), 1);
        assert!(engine.take_changes(0).people.is_empty());
        let bound = at(1, json!({"user_id": 11, "org_id": 5}));
        assert!(engine.evaluate(0, &bound, &nobody).changes.is_empty());
        let opened = at(0, json!({}));
        let key = EpisodeKey::new(1, 1, opened.device_sn(), opened.epoch_ms());
        assert_eq!(engine.take_changes(0).people, [(key, bound.ids())]);
        let notified =
            engine.evaluate(0, &at(2, json!({"user_id": 11, "org_id": 5})), &Routed::Somebody);
        assert_eq!(notified.changes.iter().map(said).collect::<Vec<_>>(), ["1 notified 11!"]);
        let moved = engine.evaluate(0, &at(3, json!({"user_id": 11, "org_id": 6})), &nobody);
        assert!(moved.changes.is_empty() && engine.take_changes(0).people.is_empty());
    }

    #[test]
    fn a_silent_device_is_forgotten_for_good_and_its_episodes_close_unnotified() {
        let limits = DeviceLimits { forget_after_ms: 30 * MINUTE_MS, ..DeviceLimits::default() };
        let mut engine = engine(vec![json!({})], limits);
        assert_eq!(evaluated(&mut engine, 0, 150, json!({})), ["1 opened 0!"]);
        assert_eq!(evaluated(&mut engine, 30, 80, json!({"device_sn": "B1"})), [""; 0]);
        drop(engine.take_changes(0));
        assert!(engine.forget_devices(0).is_empty(), "not before its time");
        evaluated(&mut engine, 31, 80, json!({"device_sn": "B1"}));
        assert!(engine.forget_devices(0).is_empty(), "not while a device is to be written");
        drop(engine.take_changes(0));
        let closed = engine.forget_devices(0);
        assert_eq!(closed.iter().map(said).collect::<Vec<_>>(), ["1 closed 0"]);
        let changes = engine.take_changes(0);
        assert!(matches!(&changes.tracked[..], [(1, _, None)]), "its state is removed");
        assert_eq!(engine.as_stored(0).devices.len(), 1);
        assert_eq!(evaluated(&mut engine, 32, 150, json!({})), ["1 opened 0!"], "as a new device");
    }

    #[test]
    fn a_device_that_the_journal_still_names_is_not_missed_after_it_was_forgotten() {
        let limits = DeviceLimits { forget_after_ms: 30 * MINUTE_MS, ..DeviceLimits::default() };
        let mut first = engine(vec![absence()], DeviceLimits::default());
        evaluated(&mut first, 0, 80, json!({}));
        evaluated(&mut first, 40, 80, json!({"device_sn": "B1"}));
        let mut stored = first.as_stored(0);
        stored.devices.values_mut().for_each(|device| device.tracked.clear());
        let mut engine = engine(vec![absence()], limits);
        engine.load(0, stored);
        engine.realign(0);
        for minute in 41..50 {
            assert_eq!(evaluated(&mut engine, minute, 80, json!({"device_sn": "B1"})), [""; 0]);
        }
    }

    #[test]
    fn the_absence_of_a_device_that_belongs_to_nobody_closes_once_and_for_all() {
        let restart = |engine: &mut Engine| {
            let stored = engine.as_stored(0);
            engine.load(0, stored);
            engine.realign(0);
        };
        let mut engine = engine(vec![absence()], DeviceLimits::default());
        let bound = reading(json!({
            "device_sn": "A1", "customer_id": 7, "user_id": 11, "heart_rate": 80,
            "timestamp": "2025-09-02 12:00:00",
        }));
        let arrival = Arrival { is_bound: true, ..Arrival::from(&bound) };
        assert!(engine.evaluate(0, arrival, &Routed::Somebody).changes.is_empty());
        evaluated(&mut engine, 0, 80, json!({"device_sn": "C1", "user_id": 13}));
        restart(&mut engine);
        let other = json!({"device_sn": "B1"});
        for minute in 1..=5 {
            evaluated(&mut engine, minute, 80, other.clone());
        }
        let absent: Vec<DeviceSn> = engine.absent_users(0).into_iter().collect();
        let absent_sns: Vec<_> = absent.iter().map(DeviceSn::as_str).collect();
        assert_eq!(absent_sns, ["A1", "C1"]);
        drop(engine.take_changes(0));
        let (none, one) = (BTreeSet::new(), BTreeSet::from([absent[0].clone()]));
        assert!(engine.close_unbound(0, &absent, &none).is_empty(), "neither is known to be bound");
        assert!(engine.close_unbound(0, &absent, &one).is_empty());
        assert_eq!(engine.take_changes(0).tracked.len(), 1, "the binding outlasts a restart");
        restart(&mut engine);
        let closed = engine.close_unbound(0, &absent, &none);
        let closed: Vec<_> = closed.iter().map(said).collect();
        assert_eq!(closed, ["2 closed 11"], "the user of C1 came with the reading");
        assert_eq!(engine.take_changes(0).journal.rows.len(), 1, "it outlasts a restart");
        restart(&mut engine);
        for minute in 6..20 {
            assert_eq!(evaluated(&mut engine, minute, 80, other.clone()), [""; 0]);
        }
    }

    #[test]
    fn an_open_episode_of_a_device_that_belongs_to_nobody_becomes_stale() {
        let bound = reading(json!({
            "device_sn": "A1", "customer_id": 7, "user_id": 11, "heart_rate": 150,
            "timestamp": "2025-09-02 12:00:00",
        }));
        let mut engine = engine(Vec::new(), DeviceLimits::default());
        let from_ms = bound.received_at_ms();
        let rules = [json!({"stale_after_seconds": 600}), absence()];
        let rules = rules.map(|fields| Rule { from_ms, ..rule(fields) });
        engine.set_rules(Arc::new(RuleSet::new(rules)));
        engine.realign(0);
        let arrival = Arrival { is_bound: true, ..Arrival::from(&bound) };
        let opened = engine.evaluate(0, arrival, &Routed::Somebody).changes;
        assert_eq!(opened.iter().map(said).collect::<Vec<_>>(), ["1 opened 11!"]);
        let until = |engine: &mut Engine, minutes: std::ops::RangeInclusive<i64>| -> Vec<_> {
            let other = json!({"device_sn": "B1"});
            minutes.flat_map(|minute| evaluated(engine, minute, 80, other.clone())).collect()
        };
        assert_eq!(until(&mut engine, 1..=5), ["2 opened 11!"]);
        let absent: Vec<DeviceSn> = engine.absent_users(0).into_iter().collect();
        let closed = engine.close_unbound(0, &absent, &BTreeSet::new());
        assert_eq!(closed.iter().map(said).collect::<Vec<_>>(), ["2 closed 11"]);
        assert_eq!(until(&mut engine, 6..=9), [""; 0]);
        let stored = engine.as_stored(0);
        engine.load(0, stored);
        engine.realign(0);
        assert_eq!(until(&mut engine, 10..=20), ["1 stale 11!"]);
    }

    #[test]
    fn a_device_too_many_is_evaluated_and_not_remembered_unless_it_fires() {
        let limits = DeviceLimits { devices_max: 1, ..DeviceLimits::default() };
        let mut engine = engine(vec![json!({}), absence()], limits);
        evaluated(&mut engine, 0, 80, json!({"device_sn": "B1"}));
        assert_eq!(evaluated(&mut engine, 1, 80, json!({})), [""; 0]);
        assert_eq!(engine.as_stored(0).devices.len(), 1);
        assert_eq!(evaluated(&mut engine, 2, 150, json!({})), ["1 opened 0!"]);
        assert_eq!(engine.as_stored(0).devices.len(), 2);
        assert_eq!(evaluated(&mut engine, 3, 80, json!({})), ["1 resolved 0!"]);
        for minute in 4..12 {
            let missed = evaluated(&mut engine, minute, 80, json!({"device_sn": "B1"}));
            assert_eq!(missed, [""; 0], "nobody is notified that it is missing");
        }
    }

    #[test]
    fn while_absence_is_suspended_nobody_is_missed_and_afterwards_it_counts_anew() {
        let mut engine = engine(vec![absence()], DeviceLimits::default());
        evaluated(&mut engine, 0, 80, json!({}));
        engine.set_absence_evaluated(false);
        let other = json!({"device_sn": "B1"});
        for minute in 1..20 {
            assert_eq!(evaluated(&mut engine, minute, 80, other.clone()), [""; 0]);
        }
        engine.set_absence_evaluated(true);
        for minute in 20..24 {
            assert_eq!(evaluated(&mut engine, minute, 80, other.clone()), [""; 0]);
        }
        assert_eq!(evaluated(&mut engine, 24, 80, other.clone()), ["2 opened 0!"]);
    }
}
