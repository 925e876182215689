//! Runs two engines on the same readings: one with the active rules, one with the rules that are
//! tried.
//!
//! Pure. Nothing is sent. A notification that is due counts as sent, except for rules without a
//! channel that reaches people.

use std::collections::BTreeMap;
use std::sync::Arc;

use ljwx_reading::{DeviceSn, Reading};

use super::compare::{Comparison, ComparisonResult, SIDES, TransitionNote};
use crate::engine::routing::Routed;
use crate::engine::{Change, Engine, ReadingOutcome, StoredPartition};
use crate::rules::index::RuleSet;
use crate::rules::rule::TEMPLATE_TENANT;

/// Readings after which the engines' pending changes are discarded.
const READINGS_BETWEEN_CLEANING: u64 = 10_000;

/// Selects readings. Without a field, selects all readings of devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only this tenant.
    pub customer_id: Option<i64>,
    /// Only this device.
    pub device: Option<DeviceSn>,
}

/// Counts of records, by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct RecordCounts {
    /// All records that were read.
    pub read: u64,
    /// Records of another tenant or device than the selected ones, and of the canary.
    pub others: u64,
    /// Records that hold no valid reading.
    pub undecodable: u64,
    /// Readings that were evaluated.
    pub judged: u64,
    /// Readings without a newer vital.
    pub late: u64,
    /// Readings whose device's clock runs ahead.
    pub ahead: u64,
}

/// A backtest under way.
#[derive(Debug)]
pub struct BacktestRun {
    engines: [Engine; 2],
    partitions: Vec<i32>,
    wanted: Selection,
    comparison: Comparison,
    records: RecordCounts,
}

impl BacktestRun {
    /// A backtest of two sets of rules on the readings of these partitions, without any state of
    /// devices.
    pub fn new(rules: [Arc<RuleSet>; 2], partitions: Vec<i32>, wanted: Selection) -> Self {
        let engines = rules.map(|rules| {
            let mut engine = Engine::default();
            engine.set_rules(rules);
            partitions.iter().for_each(|partition| {
                engine.load(*partition, StoredPartition::default());
                engine.realign(*partition);
            });
            engine
        });
        let (comparison, records) = Default::default();
        Self { engines, partitions, wanted, comparison, records }
    }

    /// Counts a record that holds no valid reading.
    pub fn undecodable(&mut self) {
        self.records.read += 1;
        self.records.undecodable += 1;
    }

    /// Evaluates both sets on a reading.
    pub fn reading(&mut self, partition: i32, reading: &Reading) {
        self.records.read += 1;
        if !self.wanted.includes(reading) {
            self.records.others += 1;
            return;
        }
        // A reading also shows that other devices are silent.
        let mut notes: BTreeMap<DeviceSn, [Vec<TransitionNote>; 2]> = BTreeMap::new();
        for side in SIDES {
            let engine = &mut self.engines[side];
            // What is owed is tried by the clock, which only the readings show here.
            let now_ms = reading.received_at_ms();
            let (owed, _) = engine.look(partition, now_ms, true, &Routed::Somebody);
            let evaluated = engine.evaluate(partition, reading, &Routed::Somebody);
            // Count the outcome of one engine only: it does not depend on the rules.
            if side == 0 {
                *self.records.of(evaluated.outcome) += 1;
            }
            for change in owed.iter().chain(&evaluated.changes) {
                let of_device = notes.entry(change.device_sn.clone()).or_default();
                of_device[side].push(note(change));
            }
        }
        for (device_sn, notes) in &notes {
            self.comparison.reading(device_sn, notes.each_ref().map(Vec::as_slice));
        }
        if self.records.read.is_multiple_of(READINGS_BETWEEN_CLEANING) {
            self.clean();
        }
    }

    fn clean(&mut self) {
        for engine in &mut self.engines {
            self.partitions.iter().for_each(|partition| drop(engine.take_changes(*partition)));
        }
    }

    /// Returns the counts of records so far.
    pub fn records(&self) -> RecordCounts {
        self.records
    }

    /// Returns the result of the comparison.
    pub fn finish(self) -> ComparisonResult {
        self.comparison.finish()
    }
}

/// Returns the transition of a change.
fn note(change: &Change) -> TransitionNote {
    let Change { rule_id, transition, .. } = *change;
    let (to, severity, notified) = (transition.to, transition.severity, transition.notify);
    TransitionNote { rule_id, to, severity, at: change.at.ms, notified }
}

impl Selection {
    fn includes(&self, reading: &Reading) -> bool {
        let customer_id = reading.ids().customer_id.unwrap_or(TEMPLATE_TENANT);
        !reading.device_sn().is_canary()
            && self.customer_id.is_none_or(|wanted| wanted == customer_id)
            && self.device.as_ref().is_none_or(|wanted| wanted == reading.device_sn())
    }
}

impl RecordCounts {
    fn of(&mut self, outcome: ReadingOutcome) -> &mut u64 {
        match outcome {
            ReadingOutcome::Evaluated => &mut self.judged,
            ReadingOutcome::Late => &mut self.late,
            ReadingOutcome::AheadOfClock => &mut self.ahead,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::compare::RuleTotals;
    use super::*;
    use crate::test_support::{heart_rate, rule};

    fn trial(one: Value, other: Value, wanted: Selection) -> BacktestRun {
        let rules = [one, other].map(|fields| Arc::new(RuleSet::new([rule(fields)])));
        BacktestRun::new(rules, vec![0], wanted)
    }

    fn found(one: Value, other: Value, rates: &[i32]) -> ComparisonResult {
        let mut trial = trial(one, other, Selection::default());
        for (second, rate) in (0_u32..).step_by(60).zip(rates) {
            trial.reading(0, &heart_rate(second, *rate));
        }
        trial.finish()
    }

    #[test]
    fn a_higher_threshold_raises_fewer_alerts() {
        let rates = [80, 110, 90, 130, 90];
        let there = found(json!({}), json!({"threshold_max": 120}), &rates);
        let [one, other] = there.rules[&1];
        assert_eq!((one.episodes, other.episodes), (2, 1));
        assert_eq!((there.only, there.other, there.listed.len()), ([1, 0], 1, 2));
        let same = found(json!({}), json!({"version": 9}), &rates);
        assert_eq!((same.only, same.other), ([0, 0], 0), "{same:?}");
    }

    #[test]
    fn notifications_are_counted_with_their_cooldowns() {
        let rates = [110, 90, 110, 90];
        let there = found(json!({}), json!({"cooldown_seconds": 0}), &rates);
        let notified = there.rules[&1].map(|count| count.notified);
        assert_eq!(notified, [2, 4], "within the cooldown the second episode is told of no more");
        let silent = json!({"enabled_channels": ["sms"]});
        let [one, other] = found(json!({}), silent, &rates).rules[&1];
        assert_eq!(other, RuleTotals { notified: 0, ..one });
    }

    #[test]
    fn a_reminder_that_nobody_hears_is_no_difference() {
        let silent = json!({"enabled_channels": ["sms"]});
        let mut reminding = silent.clone();
        reminding["repeat_interval_seconds"] = json!(60);
        let rates = [110; 20];
        assert_eq!(found(silent, reminding, &rates).other, 0);
        assert_eq!(found(json!({}), json!({"repeat_interval_seconds": 60}), &rates).other, 1);
    }

    #[test]
    fn only_the_wanted_readings_are_judged() {
        let device = DeviceSn::new("another");
        for (wanted, judged) in [
            (Selection { customer_id: Some(7), ..Selection::default() }, 1),
            (Selection { customer_id: Some(8), ..Selection::default() }, 0),
            (Selection { device, ..Selection::default() }, 0),
        ] {
            let mut trial = trial(json!({}), json!({}), wanted);
            trial.reading(0, &heart_rate(0, 110));
            trial.undecodable();
            let others = 1 - judged;
            let expected =
                RecordCounts { read: 2, undecodable: 1, judged, others, ..RecordCounts::default() };
            assert_eq!(trial.records(), expected);
        }
    }

    #[test]
    fn what_is_written_down_elsewhere_does_not_pile_up() {
        let mut trial = trial(json!({}), json!({}), Selection::default());
        trial.reading(0, &heart_rate(0, 110));
        trial.clean();
        assert!(
            trial.engines.iter_mut().all(|engine| engine.take_changes(0).journal.rows.is_empty())
        );
    }
}
