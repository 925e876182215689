use serde_json::json;

use super::*;
use crate::commands::rules::print::print;
use crate::rules::loading::last_good::StoredVersion;
use crate::rules::loading::source;
use crate::test_support::rule;

const RULES: &str = "
- {id: 1, physical_sign: heart_rate, threshold_max: 120, rule_type: metric, severity_level: major}
- {id: 2, physical_sign: blood_oxygen, threshold_min: 90, rule_type: metric}
- {id: 3, physical_sign: stress, threshold_max: 70, rule_type: metric, is_enabled: 0}
- {id: 101, customer_id: 7, physical_sign: heart_rate, threshold_min: 50, threshold_max: 110,
   rule_type: metric, priority_level: 1, trend_duration: 3, enabled_channels: [log]}
- {id: 102, customer_id: 7, physical_sign: blood_oxygen, threshold_min: 85, rule_type: metric, is_enabled: 0}
- {id: 103, customer_id: 7, physical_sign: step, threshold_max: oops}
- {id: 104, customer_id: 7, physical_sign: mood}
- {id: 201, customer_id: 8, physical_sign: mood}
- {id: 202, customer_id: 8, physical_sign: step, threshold_max: 9}
";

fn snapshot() -> RulesSnapshot {
    let fields = r#"{"id": 103, "customer_id": 7, "physical_sign": "step", "threshold_max": 5}"#;
    let accepted_at = "2025-09-02 12:00:00".to_owned();
    let kept = StoredVersion { rule_id: 103, fields: fields.into(), accepted_at };
    RulesSnapshot::new(source::parse_file(RULES).unwrap(), Some(vec![kept]))
}

fn printed(customer_id: i64) -> String {
    let mut out = Vec::new();
    print(&RuleListing::new(&snapshot(), customer_id), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_tenant_s_rules_say_where_they_come_from_and_what_overrides_what() {
    let report = RuleListing::new(&snapshot(), 7);
    let found: Vec<_> =
        report.rules.iter().map(|line| (line.id, line.origin, line.state)).collect();
    assert_eq!(
        found,
        [
            (101, RuleOrigin::Own, ListedState::InForce),
            (103, RuleOrigin::Own, ListedState::InForce),
            (1, RuleOrigin::Template, ListedState::Overridden),
            (2, RuleOrigin::Template, ListedState::Overridden),
            (3, RuleOrigin::Template, ListedState::Disabled),
            (102, RuleOrigin::Own, ListedState::Disabled),
        ]
    );
    let line = |id| report.rules.iter().find(|line| line.id == id).unwrap();
    assert_eq!((&line(101).overrides[..], &line(1).overridden_by[..]), (&[1][..], &[101][..]));
    assert_eq!((&line(102).overrides[..], &line(2).overridden_by[..]), (&[2][..], &[102][..]));
    assert_eq!(line(103).last_good.as_deref(), Some("2025-09-02 12:00:00"));
    let refused: Vec<_> = report.refused.iter().map(|refused| refused.id).collect();
    assert_eq!(refused, [Some(103), Some(104)], "another tenant's are not this one's");
}

#[test]
fn a_tenant_s_list_says_which_of_its_rules_are_probably_mistakes() {
    let rules = "
- {id: 1, physical_sign: stress, threshold_max: 70, severity_level: critical}
- {id: 101, customer_id: 7, physical_sign: stress, threshold_max: 80, trend_duration: 10}
";
    let snapshot = RulesSnapshot::new(source::parse_file(rules).unwrap(), None);
    let mut out = Vec::new();
    let listing = RuleListing::new(&snapshot, 7);
    print(&listing, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    for line in [
        "warnings:",
        "rule 101",
        "    trend_duration of 10 does not fit into 300 s at one reading a minute: raise",
    ] {
        assert!(text.lines().any(|printed| printed.starts_with(line)), "{line}\n{text}");
    }
    let counts: Vec<usize> = listing.rules.iter().map(|line| line.warnings.len()).collect();
    assert_eq!(counts, [2, 0], "the template's rule is no mistake");
}

#[test]
fn what_is_listed_in_force_is_what_readings_are_evaluated_by() {
    let snapshot = snapshot();
    for tenant in [0, 7, 8, 9] {
        let report = RuleListing::new(&snapshot, tenant);
        let listed = report.rules.iter().filter(|line| line.state == ListedState::InForce);
        let listed: Vec<i64> = listed.map(|line| line.id).collect();
        let evaluated: Vec<i64> = snapshot.rules.of(tenant).iter().map(|rule| rule.id).collect();
        assert_eq!(listed, evaluated, "tenant {tenant}");
    }
}

#[test]
fn the_table_can_be_read_at_100_columns() {
    let text = printed(7);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    for line in [
        "tenant 7: 2 rules in force, 2 of its own",
        "id   of        prio  severity  type    watches",
        "101  own       1     minor     metric  heart_rate < 50 or > 110, 3 times within 300 s; channels log",
        "                                       overrides 1",
        "1    template  3     major     metric  heart_rate > 120; channels wechat, message",
        "                                       overridden by 101",
        "rule 103",
        "    threshold_max: must be a number",
        "    evaluated in its last good version, accepted 2025-09-02 12:00:00",
        "    not evaluated: no good version of it is kept",
    ] {
        assert!(text.lines().any(|printed| printed == line), "{line}\n{text}");
    }
    assert!(printed(0).contains("tenants with rules of their own: 7 (3), 8 (1)"), "{}", printed(0));
}

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
