//! Fast path: the values that change no rule, except rules that have state on the device.
//!
//! Pure. Most readings of most devices have only these values. The rules then cost one comparison
//! per value, for any number of rules.

use ljwx_reading::Vitals;

use crate::rules::condition::{Condition, Operator};
use crate::rules::rule::{Rule, Watch};
use crate::rules::verdict::Range;
use crate::rules::vital::{Sign, Signs};

/// For each vital, a range of values in which every added rule leaves a device without state as it
/// is ([`crate::engine::episode::evaluate::leaves_quiet`]).
///
/// A value outside the range may change
/// the state of a rule, but need not.
#[derive(Debug)]
pub struct Quiet([Span; Sign::ALL.len()]);

/// A range that includes both ends.
#[derive(Debug, Clone, Copy)]
struct Span {
    min: f64,
    max: f64,
}

impl Default for Quiet {
    /// Returns the widest ranges: without rules no value changes any state.
    fn default() -> Self {
        Self([Span { min: f64::NEG_INFINITY, max: f64::INFINITY }; Sign::ALL.len()])
    }
}

impl Quiet {
    /// Narrows the ranges to the values that do not change the state of `rule`.
    pub fn add(&mut self, rule: &Rule) {
        match &rule.watch {
            Watch::Absence(_) => {}
            Watch::Range(Range { sign, deviation: Some(_), .. }) => self.0[*sign as usize].clear(),
            Watch::Range(Range { sign, thresholds, .. }) => {
                let span = &mut self.0[*sign as usize];
                span.raise(thresholds.min.unwrap_or(f64::NEG_INFINITY));
                span.lower(thresholds.max.unwrap_or(f64::INFINITY));
            }
            Watch::Conditions(composite) => {
                composite.conditions.iter().for_each(|condition| self.add_condition(condition));
            }
        }
    }

    fn add_condition(&mut self, condition: &Condition) {
        let Condition { sign, operator, threshold, .. } = *condition;
        let span = &mut self.0[sign as usize];
        match operator {
            Operator::Above => span.lower(threshold),
            Operator::AtLeast => span.lower(threshold.next_down()),
            Operator::Below => span.raise(threshold),
            Operator::AtMost => span.raise(threshold.next_up()),
            Operator::NotEqual => {
                span.raise(threshold);
                span.lower(threshold);
            }
            // The condition is false on both sides of its threshold. One range cannot express that.
            Operator::Equal => span.clear(),
        }
    }

    /// Whether the `fresh` vitals among these values change the state of no rule.
    pub fn holds(&self, fresh: Signs, vitals: &Vitals) -> bool {
        fresh.iter().all(|sign| {
            let Span { min, max } = self.0[sign as usize];
            sign.values(vitals).all(|(_, value)| min <= value && value <= max)
        })
    }
}

impl Span {
    fn raise(&mut self, min: f64) {
        self.min = self.min.max(min);
    }

    fn lower(&mut self, max: f64) {
        self.max = self.max.min(max);
    }

    fn clear(&mut self) {
        *self = Self { min: f64::INFINITY, max: f64::NEG_INFINITY };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::engine::episode::evaluate::leaves_quiet;
    use crate::test_support::{reading, rule};

    fn single(sign: &str, min: Option<i32>, max: Option<i32>) -> Value {
        json!({"physical_sign": sign, "threshold_min": min, "threshold_max": max})
    }

    fn condition(sign: &str, operator: &str, threshold: i32) -> Value {
        json!({"physical_sign": sign, "operator": operator, "threshold": threshold})
    }

    fn any_rule() -> impl Strategy<Value = Value> {
        let sign = || prop::sample::select(vec!["heart_rate", "blood_pressure", "pressure_low"]);
        let bound = || 95..105_i32;
        let operator = prop::sample::select(vec![">", "<", ">=", "<=", "==", "!="]);
        let condition = (sign(), operator, bound())
            .prop_map(|(sign, operator, threshold)| condition(sign, operator, threshold));
        let conditions = prop::collection::vec(condition, 1..3).prop_map(|conditions| {
            json!({"rule_category": "COMPOSITE", "condition_expression": {"conditions": conditions}})
        });
        prop_oneof![
            (sign(), 90..100_i32).prop_map(|(sign, min)| single(sign, Some(min), None)),
            (sign(), 95..105_i32).prop_map(|(sign, max)| single(sign, None, Some(max))),
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
            let mut quiet = Quiet::default();
            let conditions = [condition("heart_rate", operator, 100)];
            quiet.add(&rule(json!({
                "rule_category": "COMPOSITE", "condition_expression": {"conditions": conditions},
            })));
            let fresh = Signs::from_iter([Sign::HeartRate]);
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
            let mut quiet = Quiet::default();
            rules.iter().for_each(|rule| quiet.add(rule));
            let reading = reading(json!({
                "device_sn": "A1", "timestamp": "2025-09-02 12:00:00", "heart_rate": rate, "pressure_high": high, "pressure_low": low,
            }));
            let all = Signs::from_iter(Sign::ALL);
            for fresh in [all, Signs::from_iter([Sign::HeartRate]), Signs::default()] {
                let signs = |rule: &Rule| rule.signs().iter().any(|sign| fresh.contains(sign));
                let concerned = rules.iter().filter(|rule| signs(rule));
                let none = concerned.clone().all(|rule| leaves_quiet(rule, fresh, &reading));
                prop_assert!(none || !quiet.holds(fresh, reading.vitals()));
                // For a single bound the range is exact.
                if concerned.count() <= 1 && rules.iter().all(is_one_bound) {
                    prop_assert_eq!(quiet.holds(fresh, reading.vitals()), none);
                }
            }
        }
    }

    fn is_one_bound(rule: &Rule) -> bool {
        matches!(&rule.watch, Watch::Range(Range { deviation: None, .. }))
    }
}
