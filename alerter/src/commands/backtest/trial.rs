//! Runs two engines on the same readings: one with the active rules, one with the rules that are
//! tried.
//!
//! Pure. Nothing is sent. A notification that is due counts as sent, except for rules without a
//! channel that reaches people.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use ljwx_reading::{DeviceSn, Reading, wall_text};

use super::compare::{Comparison, TransitionNote};
use crate::commands::device_sn;
use crate::engine::routing::Routed;
use crate::engine::{Change, DeviceLimits, Engine, ReadingOutcome, StoredPartition};
use crate::rules::TEMPLATE_TENANT;
use crate::rules::index::RuleSet;

/// Readings after which the engines' pending changes are discarded.
const READINGS_BETWEEN_CLEANING: u64 = 10_000;

/// Selects readings. Without a field, selects all readings of devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Selection {
    /// Only readings of this tenant.
    #[arg(long)]
    pub customer_id: Option<i64>,
    /// Only readings of this device.
    #[arg(long, value_parser = device_sn)]
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
    pub evaluated: u64,
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
    /// Counts of records so far.
    pub records: RecordCounts,
}

impl BacktestRun {
    /// A backtest of two sets of rules on the readings of these partitions, without any state of
    /// devices. Missing data is dated in `zone`.
    pub fn new(
        rules: [Arc<RuleSet>; 2],
        partitions: Vec<i32>,
        wanted: Selection,
        zone: &TimeZone,
    ) -> Self {
        let engines = rules.map(|rules| {
            let mut engine = Engine::new(zone.clone(), DeviceLimits::default());
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
        for (side, engine) in self.engines.iter_mut().enumerate() {
            // What is owed is tried by the clock, which only the readings show here.
            let now_ms = reading.received_at_ms();
            let (owed, _) = engine.look(partition, now_ms, true, &Routed::Somebody);
            let evaluated = engine.evaluate(partition, reading, &Routed::Somebody);
            // Count the outcome of one engine only: it does not depend on the rules.
            if side == 0 {
                let records = &mut self.records;
                *match evaluated.outcome {
                    ReadingOutcome::Evaluated => &mut records.evaluated,
                    ReadingOutcome::Late => &mut records.late,
                    ReadingOutcome::AheadOfClock => &mut records.ahead,
                } += 1;
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

    /// Returns the result of the comparison.
    pub fn finish(self) -> Comparison {
        self.comparison.finish()
    }
}

/// Returns the transition of a change.
fn note(change: &Change) -> TransitionNote {
    let Change { rule_id, transition, .. } = *change;
    let (to, severity, notified) = (transition.to, transition.severity, transition.notify);
    TransitionNote { rule_id, to, severity, at: wall_text(change.at.wall), notified }
}

impl Selection {
    fn includes(&self, reading: &Reading) -> bool {
        let customer_id = reading.ids().customer_id.unwrap_or(TEMPLATE_TENANT);
        !reading.device_sn().is_canary()
            && self.customer_id.is_none_or(|wanted| wanted == customer_id)
            && self.device.as_ref().is_none_or(|wanted| wanted == reading.device_sn())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::compare::{Differences, RuleTotals};
    use super::*;
    use crate::test_support::{heart_rate, rule};

    fn trial(one: Value, other: Value, wanted: Selection) -> BacktestRun {
        let rules = [one, other].map(|fields| Arc::new(RuleSet::new([rule(fields)])));
        BacktestRun::new(rules, vec![0], wanted, &TimeZone::UTC)
    }

    fn found(one: Value, other: Value, rates: &[i32]) -> Comparison {
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
        let differences = &there.differences;
        assert_eq!((differences.only_a, differences.only_b, differences.otherwise), (1, 0, 1));
        assert_eq!(differences.listed.len(), 2);
        let same = found(json!({}), json!({"version": 9}), &rates);
        assert_eq!(same.differences, Differences::default());
    }

    #[test]
    fn notifications_are_counted_with_their_cooldowns() {
        let rates = [110, 90, 110, 90];
        let there = found(json!({}), json!({"cooldown_seconds": 0}), &rates);
        let notified = there.rules[&1].map(|count| count.notifications);
        assert_eq!(notified, [2, 4], "within the cooldown the second episode is not notified");
        let silent = json!({"enabled_channels": ["sms"]});
        let [one, other] = found(json!({}), silent, &rates).rules[&1];
        assert_eq!(other, RuleTotals { notifications: 0, ..one });
    }

    #[test]
    fn a_reminder_that_reaches_nobody_is_no_difference() {
        let silent = json!({"enabled_channels": ["sms"]});
        let mut reminding = silent.clone();
        reminding["repeat_interval_seconds"] = json!(60);
        let rates = [110; 20];
        assert_eq!(found(silent, reminding, &rates).differences.otherwise, 0);
        let reminded = found(json!({}), json!({"repeat_interval_seconds": 60}), &rates);
        assert_eq!(reminded.differences.otherwise, 1);
    }

    #[test]
    fn only_the_wanted_readings_are_evaluated() {
        let device = DeviceSn::new("another");
        for (wanted, evaluated) in [
            (Selection { customer_id: Some(7), ..Selection::default() }, 1),
            (Selection { customer_id: Some(8), ..Selection::default() }, 0),
            (Selection { device, ..Selection::default() }, 0),
        ] {
            let mut trial = trial(json!({}), json!({}), wanted);
            trial.reading(0, &heart_rate(0, 110));
            trial.undecodable();
            let others = 1 - evaluated;
            let expected = RecordCounts {
                read: 2,
                undecodable: 1,
                evaluated,
                others,
                ..RecordCounts::default()
            };
            assert_eq!(trial.records, expected);
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
