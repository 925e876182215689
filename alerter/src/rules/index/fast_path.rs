//! Fast path: the values that change no rule, except rules that have state on the device.
//!
//! Pure. Most readings of most devices have only these values. The rules then cost one comparison
//! per value, for any number of rules.

use ljwx_reading::Vitals;

use crate::rules::{Condition, Operator, Range, Rule, Trigger, Vital, VitalSet};

/// For each vital, a range of values in which every added rule leaves a device without state as it
/// is ([`crate::engine::episode::evaluate::cannot_change_state`]).
///
/// A value outside the range may change the state of a rule, but need not. A range of blood pressure
/// is a range of both pressures.
#[derive(Debug)]
pub struct SafeRanges([ValueRange; Vital::ALL.len()]);

/// A range that includes both ends.
#[derive(Debug, Clone, Copy)]
struct ValueRange {
    min: f64,
    max: f64,
}

impl ValueRange {
    const ALL: Self = Self { min: f64::NEG_INFINITY, max: f64::INFINITY };
    const NONE: Self = Self { min: f64::INFINITY, max: f64::NEG_INFINITY };
}

impl Default for SafeRanges {
    /// Returns the widest ranges: without rules no value changes any state.
    fn default() -> Self {
        Self([ValueRange::ALL; Vital::ALL.len()])
    }
}

impl SafeRanges {
    /// Narrows the ranges to the values that do not change the state of `rule`.
    pub fn add(&mut self, rule: &Rule) {
        match &rule.trigger {
            Trigger::NoData(_) => {}
            Trigger::Range(Range { vital, deviation: Some(_), .. }) => {
                self.narrow(*vital, ValueRange::NONE);
            }
            Trigger::Range(Range { vital, thresholds, .. }) => {
                let min = thresholds.min.unwrap_or(f64::NEG_INFINITY);
                let max = thresholds.max.unwrap_or(f64::INFINITY);
                self.narrow(*vital, ValueRange { min, max });
            }
            Trigger::Conditions(composite) => {
                for condition in &composite.conditions {
                    self.narrow(condition.vital, without_effect(condition));
                }
            }
        }
    }

    fn narrow(&mut self, vital: Vital, to: ValueRange) {
        for part in vital.parts() {
            let range = &mut self.0[part as usize];
            *range = ValueRange { min: range.min.max(to.min), max: range.max.min(to.max) };
        }
    }

    /// Whether the `fresh` vitals among these values change the state of no rule.
    pub fn holds(&self, fresh: VitalSet, vitals: &Vitals) -> bool {
        let mut unsafe_values = 0;
        for (place, (value, range)) in Vital::each(vitals).iter().zip(&self.0).enumerate() {
            let is_safe = value.is_none_or(|value| range.min <= value && value <= range.max);
            unsafe_values |= u16::from(!is_safe) << place;
        }
        !fresh.with_parts().intersects(VitalSet::from_bits(unsafe_values))
    }
}

/// Returns the values for which a condition is false. A condition that is false on both sides of its
/// threshold has none, because one range cannot express that.
fn without_effect(condition: &Condition) -> ValueRange {
    let Condition { operator, threshold, .. } = *condition;
    let (min, max) = match operator {
        Operator::Above => (f64::NEG_INFINITY, threshold),
        Operator::AtLeast => (f64::NEG_INFINITY, threshold.next_down()),
        Operator::Below => (threshold, f64::INFINITY),
        Operator::AtMost => (threshold.next_up(), f64::INFINITY),
        Operator::NotEqual => (threshold, threshold),
        Operator::Equal => return ValueRange::NONE,
    };
    ValueRange { min, max }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::engine::episode::evaluate::cannot_change_state;
    use crate::test_support::{reading, rule};

    fn single(vital: &str, min: Option<i32>, max: Option<i32>) -> Value {
        json!({"physical_sign": vital, "threshold_min": min, "threshold_max": max})
    }

    fn condition(vital: &str, operator: &str, threshold: i32) -> Value {
        json!({"physical_sign": vital, "operator": operator, "threshold": threshold})
    }

    fn any_rule() -> impl Strategy<Value = Value> {
        let vital = || prop::sample::select(vec!["heart_rate", "blood_pressure", "pressure_low"]);
        let bound = || 95..105_i32;
        let operator = prop::sample::select(vec![">", "<", ">=", "<=", "==", "!="]);
        let condition = (vital(), operator, bound())
            .prop_map(|(vital, operator, threshold)| condition(vital, operator, threshold));
        let conditions = prop::collection::vec(condition, 1..3).prop_map(|conditions| {
            json!({"rule_category": "COMPOSITE", "condition_expression": {"conditions": conditions}})
        });
        prop_oneof![
            (vital(), 90..100_i32).prop_map(|(vital, min)| single(vital, Some(min), None)),
            (vital(), 95..105_i32).prop_map(|(vital, max)| single(vital, None, Some(max))),
            conditions,
            Just(json!({"physical_sign": "heart_rate", "deviation_percentage": 20})),
            Just(json!({"rule_category": "NO_DATA", "time_window_seconds": 60})),
        ]
    }

    #[test]
    fn a_condition_takes_notice_at_its_threshold_as_its_operator_says() {
        for (operator, quiet_at) in [
            (">", [true, true, false]),
            (">=", [true, false, false]),
            ("<", [false, true, true]),
            ("<=", [false, false, true]),
            ("!=", [false, true, false]),
            // One range cannot leave out a single value.
            ("==", [false, false, false]),
        ] {
            let mut quiet = SafeRanges::default();
            let conditions = [condition("heart_rate", operator, 100)];
            quiet.add(&rule(json!({
                "rule_category": "COMPOSITE", "condition_expression": {"conditions": conditions},
            })));
            let fresh = VitalSet::from_iter([Vital::HeartRate]);
            let at = |rate: i32| {
                quiet.holds(fresh, &Vitals { heart_rate: Some(rate), ..Vitals::default() })
            };
            assert_eq!([99, 100, 101].map(at), quiet_at, "{operator}");
        }
    }

    proptest! {
        #[test]
        fn what_is_quiet_leaves_every_rule_quiet(
            fields in prop::collection::vec(any_rule(), 0..4),
            rate in 90..110_i32, high in 90..110_i32, low in 90..110_i32,
        ) {
            let rules: Vec<_> = fields.into_iter().map(rule).collect();
            let mut quiet = SafeRanges::default();
            rules.iter().for_each(|rule| quiet.add(rule));
            let reading = reading(json!({
                "device_sn": "A1", "timestamp": "2025-09-02 12:00:00", "heart_rate": rate, "pressure_high": high, "pressure_low": low,
            }));
            let all = VitalSet::from_iter(Vital::ALL);
            for fresh in [all, VitalSet::from_iter([Vital::HeartRate]), VitalSet::default()] {
                let watches = |rule: &Rule| rule.watched_vitals().iter().any(|vital| fresh.contains(vital));
                let concerned = rules.iter().filter(|rule| watches(rule));
                let none = concerned.clone().all(|rule| cannot_change_state(rule, fresh, &reading));
                prop_assert!(none || !quiet.holds(fresh, reading.vitals()));
                // For a single bound the range is exact.
                if concerned.count() <= 1 && rules.iter().all(is_one_bound) {
                    prop_assert_eq!(quiet.holds(fresh, reading.vitals()), none);
                }
            }
        }
    }

    fn is_one_bound(rule: &Rule) -> bool {
        matches!(&rule.trigger, Trigger::Range(Range { deviation: None, .. }))
    }
}
