//! Finds valid rules that are probably mistakes. The rules are evaluated as they are, and a warning
//! names the doubt.

use crate::rules::rule::{Rule, Trigger};
use crate::rules::verdict::Range;
use crate::rules::vital::Vital;

/// A value of each vital that is normal for a healthy adult at rest.
const NORMAL_VALUES: [(Vital, f64); 5] = [
    (Vital::HeartRate, 75.0),
    (Vital::BloodOxygen, 97.0),
    (Vital::Temperature, 36.5),
    (Vital::PressureHigh, 115.0),
    (Vital::PressureLow, 75.0),
];

/// Returns the reasons to doubt that a rule is meant as written.
pub fn lints(rule: &Rule) -> Vec<String> {
    match &rule.trigger {
        Trigger::Range(range) if rule.enabled => of_range(range),
        _ => Vec::new(),
    }
}

fn of_range(range: &Range) -> Vec<String> {
    let both = range.vital == Vital::BloodPressure;
    let watched = |vital| {
        vital == range.vital || both && matches!(vital, Vital::PressureHigh | Vital::PressureLow)
    };
    let mut found: Vec<String> = NORMAL_VALUES
        .into_iter()
        .filter(|(vital, value)| watched(*vital) && range.thresholds.broken_by(*value).is_some())
        .map(|(vital, value)| {
            let advice = if both {
                "one range suits not both pressures, make a rule for each"
            } else {
                "the thresholds are the range in which all is well, not the one to warn in"
            };
            format!("a usual {} of {value} is a breach: {advice}", vital.as_str())
        })
        .collect();
    if range.vital == Vital::Stress && range.thresholds.min.is_some_and(|min| min > 0.0) {
        found.push(
            "a stress of 0, which watches send where they measured none, is a breach: leave \
             threshold_min out"
                .into(),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::test_support::rule;

    /// The platform's seeded rules, with the expected doubt about each.
    #[test]
    fn the_platform_s_seeded_rules_load_and_those_that_cannot_be_meant_are_named() {
        for (vital, min, max, doubted) in [
            ("heart_rate", 60.0, 100.0, &[][..]),
            ("blood_pressure", 91.0, 140.0, &["pressure_low of 75"][..]),
            ("stress", 1.0, 66.0, &["stress of 0"][..]),
            ("blood_oxygen", 90.0, 100.0, &[][..]),
            ("temperature", 35.0, 37.5, &[][..]),
            ("sleep", 6.0, 10.0, &[][..]),
            ("heart_rate", 120.0, 140.0, &["heart_rate of 75"][..]),
            ("heart_rate", 140.0, 160.0, &["heart_rate of 75"][..]),
        ] {
            let fields =
                json!({"physical_sign": vital, "threshold_min": min, "threshold_max": max});
            let found = lints(&rule(fields));
            assert_eq!(found.len(), doubted.len(), "{vital} {min}–{max}: {found:?}");
            for (found, doubted) in found.iter().zip(doubted) {
                assert!(found.contains(doubted), "{found}");
            }
        }
        let disabled: Value = json!({"threshold_min": 120, "threshold_max": 140, "is_enabled": 0});
        assert_eq!(lints(&rule(disabled)), [""; 0]);
    }
}
