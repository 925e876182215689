//! Describes a rule's trigger and channels in words for operators.

use std::fmt::Write;

use crate::rules::channel::Channels;
use crate::rules::condition::Composite;
use crate::rules::rule::{Rule, Trigger};
use crate::rules::verdict::Range;

/// Describes a rule's trigger, such as `heart_rate < 50 or > 120, 3 times within 300 s`.
pub fn describe(rule: &Rule) -> String {
    let mut words = match &rule.trigger {
        Trigger::Range(range) => in_range(range),
        Trigger::Conditions(composite) => in_conditions(composite),
        Trigger::NoData(window_ms) => format!("no data for {} s", window_ms / 1000),
    };
    if rule.policy.trend > 1 {
        let (trend, seconds) = (rule.policy.trend, rule.policy.window_ms / 1000);
        // Writing to a string cannot fail.
        let _ = write!(words, ", {trend} times within {seconds} s");
    }
    words
}

fn in_range(range: &Range) -> String {
    let min = range.thresholds.min.map(|min| format!("< {min}"));
    let max = range.thresholds.max.map(|max| format!("> {max}"));
    let deviation = range.deviation.map(|usual| {
        let percent = usual.percentage;
        format!("over {percent} % off its mean of {} s", usual.window_ms / 1000)
    });
    let all: Vec<String> = min.into_iter().chain(max).chain(deviation).collect();
    format!("{} {}", range.vital.as_str(), all.join(" or "))
}

fn in_conditions(composite: &Composite) -> String {
    let words = composite.conditions.iter().map(|condition| {
        let (vital, operator) = (condition.vital.as_str(), condition.operator.as_str());
        let lasting = match condition.duration_ms / 1000 {
            0 => String::new(),
            seconds => format!(" for {seconds} s"),
        };
        format!("{vital} {operator} {}{lasting}", condition.threshold)
    });
    let words: Vec<String> = words.collect();
    words.join(if composite.all { " and " } else { " or " })
}

/// Returns the channels of a rule.
pub fn channels(rule: &Rule) -> Vec<&'static str> {
    let Channels { wechat, wecom, message, log } = rule.channels;
    let all = [(wechat, "wechat"), (wecom, "wecom"), (message, "message"), (log, "log")];
    all.into_iter().filter_map(|(on, word)| on.then_some(word)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support::rule;

    #[test]
    fn rules_are_put_into_words() {
        let conditions = json!({"logical_operator": "OR", "conditions": [
            {"physical_sign": "heart_rate", "operator": ">=", "threshold": 120, "duration_seconds": 30},
            {"physical_sign": "blood_oxygen", "operator": "!=", "threshold": 91.5},
        ]});
        for (fields, words) in [
            (json!({}), "heart_rate > 100"),
            (
                json!({"threshold_min": 50.5, "trend_duration": 3}),
                "heart_rate < 50.5 or > 100, 3 times within 300 s",
            ),
            (
                json!({"threshold_max": null, "deviation_percentage": 12.5}),
                "heart_rate over 12.5 % off its mean of 300 s",
            ),
            (
                json!({"rule_category": "COMPOSITE", "condition_expression": conditions}),
                "heart_rate >= 120 for 30 s or blood_oxygen != 91.5",
            ),
        ] {
            assert_eq!(describe(&rule(fields)), words);
        }
        let both = rule(json!({"enabled_channels": ["wechat", "log"]}));
        assert_eq!(channels(&both), ["wechat", "log"]);
    }
}
