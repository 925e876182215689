//! Finds valid rules that are probably mistakes. The rules are evaluated as they are, and a warning
//! names the doubt.

use crate::rules::verdict::MEAN_VALUES_MIN;
use crate::rules::{Range, Rule, Vital};

/// Time between two readings that the windows of rules should allow for, in milliseconds.
const READING_INTERVAL_MS: i64 = 60_000;

/// A reason to doubt that a rule is meant as written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleWarning {
    /// A part of the rule has no effect, or an effect that is probably not meant.
    #[error("{0}")]
    Doubt(String),
    /// At one reading a minute, the trend or the deviation opens no episode.
    #[error("{0}")]
    CannotOpen(String),
    /// The rule overrides these rules of the template, and is less severe.
    #[error(
        "overrides more severe rules of the template, {}: raise severity_level, or take another \
         rule_type to keep both",
        numbers(.0)
    )]
    Weakens(Vec<i64>),
}

/// Lists the numbers of rules.
pub fn numbers(ids: &[i64]) -> String {
    let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
    ids.join(", ")
}

/// A value of each vital that is normal for a healthy adult at rest.
const NORMAL_VALUES: [(Vital, f64); 5] = [
    (Vital::HeartRate, 75.0),
    (Vital::BloodOxygen, 97.0),
    (Vital::Temperature, 36.5),
    (Vital::PressureHigh, 115.0),
    (Vital::PressureLow, 75.0),
];

/// Returns the reasons to doubt that a rule is meant as written.
pub fn lints(rule: &Rule) -> Vec<RuleWarning> {
    if !rule.enabled {
        return Vec::new();
    }
    let doubts = rule.range().map(of_range).unwrap_or_default();
    doubts.into_iter().map(RuleWarning::Doubt).chain(cannot_open(rule)).collect()
}

/// Finds windows that are too short for the readings that they must hold.
fn cannot_open(rule: &Rule) -> Option<RuleWarning> {
    let too_short = |intervals: usize, window_ms: i64| {
        let needed_ms = intervals as i64 * READING_INTERVAL_MS;
        (needed_ms > window_ms).then(|| {
            format!("at one reading a minute: raise time_window_seconds to {}", needed_ms / 1000)
        })
    };
    let (trend, window_ms) = (rule.policy.trend, rule.policy.window_ms);
    let trend = too_short(trend - 1, window_ms).map(|remedy| {
        format!("trend_duration of {trend} does not fit into {} s {remedy}", window_ms / 1000)
    });
    let deviation = rule.range().and_then(|range| range.deviation).and_then(|deviation| {
        let remedy = too_short(MEAN_VALUES_MIN, deviation.window_ms)?;
        let seconds = deviation.window_ms / 1000;
        Some(format!(
            "deviation_percentage needs {MEAN_VALUES_MIN} values before the reading, which do not \
             fit into {seconds} s {remedy}"
        ))
    });
    let reasons: Vec<String> = trend.into_iter().chain(deviation).collect();
    (!reasons.is_empty()).then(|| RuleWarning::CannotOpen(reasons.join("; ")))
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
        let doubt = "a stress of 0, which watches send where they measured none, is a breach: \
                     leave threshold_min out";
        found.push(doubt.to_owned());
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
                assert!(found.to_string().contains(doubted), "{found}");
            }
        }
        let disabled: Value = json!({"threshold_min": 120, "threshold_max": 140, "is_enabled": 0});
        assert!(lints(&rule(disabled)).is_empty());
    }

    #[test]
    fn a_window_too_short_for_its_readings_at_one_a_minute_is_named_with_one_that_is_not() {
        let mean = |window: i64| {
            json!({"deviation_percentage": 20, "threshold_max": null,
                "time_window_seconds": window})
        };
        let condition = json!({"physical_sign": "stress", "operator": ">", "threshold": 80});
        for (fields, named) in [
            (json!({"trend_duration": 6}), None),
            (json!({"trend_duration": 7}), Some("trend_duration of 7 does not fit into 300 s")),
            (json!({"trend_duration": 7}), Some("raise time_window_seconds to 360")),
            (json!({"trend_duration": 7, "time_window_seconds": 360}), None),
            (json!({"trend_duration": 7, "is_enabled": 0}), None),
            (mean(600), None),
            (mean(599), Some("10 values before the reading, which do not fit into 599 s")),
            (mean(599), Some("raise time_window_seconds to 600")),
            (
                json!({"rule_category": "COMPOSITE", "trend_duration": 7,
                    "condition_expression": {"conditions": [condition]}}),
                Some("trend_duration of 7"),
            ),
            (json!({"rule_category": "NO_DATA", "trend_duration": 7}), None),
        ] {
            let found = lints(&rule(fields.clone()));
            let text = match &found[..] {
                [] => None,
                [RuleWarning::CannotOpen(text)] => Some(text.as_str()),
                other => panic!("{fields}: {other:?}"),
            };
            let right = match named {
                Some(named) => text.is_some_and(|text| text.contains(named)),
                None => text.is_none(),
            };
            assert!(right, "{fields}: {text:?}");
        }
    }
}
