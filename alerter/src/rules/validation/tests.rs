use serde_json::json;

use super::*;
use crate::rules::rule::ALL_DAYS;
use crate::rules::{ActiveHours, Channels, Severity, Trigger};
use crate::test_support::object;

fn base() -> Value {
    json!({"id": 7, "physical_sign": "heart_rate", "threshold_max": 100})
}

fn checked(change: Value) -> CheckedRule {
    let mut fields = object(base());
    fields.extend(object(change));
    check(&fields, 1)
}

fn valid(change: Value) -> Rule {
    match checked(change).checked {
        RuleStatus::Valid(rule) => *rule,
        other => panic!("{other:?}"),
    }
}

fn problems(change: Value) -> Vec<String> {
    let CheckedRule { name, checked, .. } = checked(change);
    match checked {
        RuleStatus::Invalid(problems) => {
            problems.iter().map(|one| format!("{name}: {one}")).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_said_has_its_default() {
    let rule = valid(json!({}));
    assert_eq!((rule.customer_id, rule.priority, rule.enabled), (0, 3, true));
    assert_eq!((rule.policy.trend, rule.policy.window_ms), (1, 300_000));
    assert_eq!((rule.policy.cooldown_ms, rule.policy.repeat_ms), (600_000, None));
    let Trigger::Range(range) = &rule.trigger else { panic!("{rule:?}") };
    assert_eq!((rule.policy.clear_after, range.clear), (1, range.thresholds));
    assert_eq!(rule.policy.severity, Severity::Minor);
    assert_eq!(rule.channels, Channels { wechat: true, message: true, ..Channels::default() });
    assert_eq!(rule.effective, ActiveHours { start: None, end: None, days: ALL_DAYS });
}

#[test]
fn texts_of_a_row_mean_what_the_typed_fields_of_a_file_mean() {
    let row = valid(json!({
        "id": "7", "threshold_max": "100.00", "threshold_min": null, "is_enabled": "1",
        "effective_time_start": "22:00:00", "effective_days": "1,3", "version": "4",
        "escalation": "[{\"after_seconds\": 900, \"to\": \"critical\"}]",
        "enabled_channels": "[\"wechat\", \"log\"]", "physical_sign": " heartRate ",
    }));
    let file = valid(json!({
        "effective_time_start": "22:00", "effective_days": [1, 3], "version": 4,
        "is_enabled": true, "escalation": [{"after_seconds": 900, "to": "一级"}],
        "enabled_channels": ["wechat", "log"],
    }));
    assert_eq!(row, file);
}

#[test]
fn all_problems_of_a_rule_are_listed_with_its_number_and_the_field() {
    let found = problems(json!({
        "threshold_max": "high", "trend_duration": 0, "severity_level": "bad",
        "alert_message": "{vlaue}", "effective_days": "8", "priority_level": 9,
        "effective_time_end": "25:00:00", "escalation": [{"to": "critical"}],
    }));
    assert_eq!(found.len(), 8, "{found:#?}");
    for field in [
        "threshold_max",
        "trend_duration",
        "severity_level",
        "alert_message",
        "effective_days",
        "priority_level",
        "effective_time_end",
        "escalation",
    ] {
        let start = format!("rule 7: {field}: ");
        assert!(found.iter().any(|problem| problem.starts_with(&start)), "{field}: {found:#?}");
    }
}

#[test]
fn what_cannot_work_is_refused() {
    for (change, field) in [
        (json!({"threshold_max": null}), "threshold_min"),
        (json!({"threshold_min": 120}), "threshold_min"),
        (json!({"clear_max": 101}), "clear_max"),
        (json!({"threshold_min": 60, "clear_min": 59}), "clear_min"),
        (json!({"threshold_min": 60, "clear_min": 80, "clear_max": 70}), "clear_min"),
        (json!({"trend_duration": 100, "time_window_seconds": 10}), "trend_duration"),
        (json!({"physical_sign": null}), "physical_sign"),
        (json!({"physical_sign": "mood"}), "physical_sign"),
        (json!({"id": null}), "id"),
        (json!({"deviation_percentage": -20}), "deviation_percentage"),
        (
            json!({"escalation": [{"after_seconds": 9, "to": "info"}, {"after_seconds": 8, "to": "info"}]}),
            "escalation",
        ),
        (json!({"rule_category": "TRIPLE"}), "rule_category"),
    ] {
        let found = problems(change.clone());
        assert!(
            found.len() == 1 && found[0].contains(&format!(": {field}: ")),
            "{change}: {found:?}"
        );
    }
}

#[test]
fn the_higher_of_two_severities_counts_and_a_wrong_word_only_if_no_other_is_right() {
    for (fields, severity) in [
        (json!({"severity_level": "minor", "level": "critical"}), Severity::Critical),
        (json!({"severity_level": "一级", "level": "minor"}), Severity::Critical),
        (json!({"level": "high"}), Severity::Major),
        (json!({"severity_level": "info", "level": ""}), Severity::Info),
        (json!({"severity_level": null, "level": null}), Severity::Minor),
    ] {
        assert_eq!(valid(fields.clone()).policy.severity, severity, "{fields}");
    }
    for (fields, field) in [
        (json!({"severity_level": "bad", "level": "critical"}), "severity_level"),
        (json!({"severity_level": "critical", "level": "bad"}), "level"),
    ] {
        let check = checked(fields);
        let [RuleWarning::Doubt(doubt)] = &check.warnings[..] else { panic!("{check:?}") };
        assert!(doubt.starts_with(&format!("{field}: bad is no severity")), "{doubt}");
        let RuleStatus::Valid(rule) = check.checked else { panic!("{field}") };
        assert_eq!(rule.policy.severity, Severity::Critical, "{field}");
    }
    let found = problems(json!({"severity_level": "bad", "level": "worse"}));
    assert_eq!(found.len(), 2, "{found:?}");
    let found = problems(json!({"severity_level": "", "level": "worse"}));
    assert!(found.len() == 1 && found[0].starts_with("rule 7: level: worse"), "{found:?}");
}

#[test]
fn a_rule_without_a_day_is_refused_and_one_that_names_none_counts_every_day() {
    for days in [json!([]), json!("[]"), json!("[ ]"), json!([8]), json!("1,2,")] {
        let found = problems(json!({ "effective_days": days }));
        let named = found.len() == 1
            && found[0].starts_with("rule 7: effective_days: ")
            && found[0].ends_with("for every day");
        assert!(named, "{days}: {found:?}");
    }
    for fields in [
        json!({}),
        json!({"effective_days": null}),
        json!({"effective_days": ""}),
        json!({"effective_days": " "}),
    ] {
        assert_eq!(valid(fields).effective.days, ALL_DAYS);
    }
    assert_eq!(valid(json!({"effective_days": "[\"1\", \"7\"]"})).effective.days, 0b1000_0010);
}

#[test]
fn categories_of_later_versions_are_refused_by_name() {
    let complex = json!({"rule_category": "COMPLEX", "physical_sign": null, "threshold_max": null});
    assert_eq!(problems(complex), ["rule 7: rule_category: COMPLEX is not supported"]);
}

#[test]
fn deleted_rules_and_events_are_no_errors() {
    let deleted = checked(json!({"is_deleted": 1, "threshold_max": "x"})).checked;
    assert!(matches!(deleted, RuleStatus::Deleted));
    assert!(matches!(checked(json!({"physical_sign": "event"})).checked, RuleStatus::Event));
}

#[test]
fn every_word_for_a_channel_is_read_wherever_it_stands() {
    let none = Channels::default();
    let both = Channels { wechat: true, message: true, ..none };
    for (change, channels) in [
        (json!({"notification_type": "wechat"}), Channels { wechat: true, ..none }),
        (json!({"notification_type": "message"}), Channels { message: true, ..none }),
        (json!({"notification_type": "both"}), both),
        (json!({"notification_type": ""}), both),
        (json!({"enabled_channels": []}), both),
        (
            json!({"enabled_channels": "[]", "notification_type": "wechat"}),
            Channels { wechat: true, ..none },
        ),
        (json!({"enabled_channels": "[\"WeCom\"]"}), Channels { wecom: true, ..none }),
        (
            json!({"enabled_channels": "log, message"}),
            Channels { log: true, message: true, ..none },
        ),
        (json!({"enabled_channels": ["wecom", "both"]}), Channels { wecom: true, ..both }),
        // The list wins over the older field.
        (
            json!({"enabled_channels": ["log"], "notification_type": "both"}),
            Channels { log: true, ..none },
        ),
    ] {
        let check = checked(change.clone());
        assert!(check.warnings.is_empty(), "{change}: {:?}", check.warnings);
        let RuleStatus::Valid(rule) = check.checked else { panic!("{change}") };
        assert_eq!(rule.channels, channels, "{change}");
    }
}

#[test]
fn channels_not_configured_here_are_skipped_and_the_rule_stays() {
    let check = checked(json!({"enabled_channels": ["wechat", "sms", "email"]}));
    let [RuleWarning::Doubt(warning)] = &check.warnings[..] else { panic!("{check:?}") };
    assert_eq!(warning, "notifications by sms, email are skipped: not configured here");
    let RuleStatus::Valid(rule) = check.checked else { panic!() };
    assert_eq!(rule.channels, Channels { wechat: true, ..Channels::default() });
    // A rule with only unknown channels notifies by no channel.
    let check = checked(json!({"enabled_channels": ["sms"]}));
    let RuleStatus::Valid(rule) = check.checked else { panic!() };
    assert_eq!(rule.channels, Channels::default());
}

#[test]
fn an_edit_of_a_rule_without_a_version_is_another_version() {
    let (one, other) = (valid(json!({})), valid(json!({"threshold_max": 101})));
    assert_ne!(one.version, other.version);
    assert_eq!(one.version, valid(json!({"update_time": "2025-09-02"})).version);
    assert!(one.version >= 0);
}

#[test]
fn a_rule_type_or_text_too_long_for_its_column_is_refused_by_name() {
    for (field, chars_max) in [("rule_type", 50), ("alert_message", 1_000)] {
        valid(json!({ field: "𠮷".repeat(chars_max) }));
        let RuleStatus::Invalid(problems) =
            checked(json!({ field: "x".repeat(chars_max + 1) })).checked
        else {
            panic!("{field}")
        };
        let said: Vec<_> = problems.iter().map(|one| (one.field, one.message.as_str())).collect();
        let message = format!("has {} characters, of {chars_max} at most", chars_max + 1);
        assert_eq!(said, [(field, message.as_str())]);
    }
}
