use serde_json::json;

use crate::rules::validation::{RuleStatus, check};
use crate::rules::{Operator, Rule, Trigger, Vital};
use crate::test_support::object;

fn checked(expression: serde_json::Value) -> RuleStatus {
    let fields = json!({
        "id": 7, "rule_category": "COMPOSITE", "physical_sign": "composite_0001",
        "condition_expression": expression,
    });
    check(&object(fields), 1).checked
}

fn valid(expression: serde_json::Value) -> Rule {
    match checked(expression) {
        RuleStatus::Valid(rule) => *rule,
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_spellings_and_a_text_of_them_say_the_same() {
    let snake = json!({
        "conditions": [
            {"physical_sign": "heart_rate", "operator": ">", "threshold": 100, "duration_seconds": 60},
            {"physical_sign": "blood_oxygen", "operator": "<=", "threshold": "92"},
        ],
        "logical_operator": "or",
    });
    let camel = json!({
        "conditions": [
            {"physicalSign": "heartRate", "operator": ">", "threshold": "100", "durationSeconds": 60},
            {"physicalSign": "bloodOxygen", "operator": "<=", "threshold": 92, "durationSeconds": null},
        ],
        "logicalOperator": "OR",
    });
    let Trigger::Conditions(composite) = valid(snake.clone()).trigger else { panic!() };
    assert_eq!((composite.all, composite.conditions.len()), (false, 2));
    assert_eq!(
        (composite.conditions[0].vital, composite.conditions[0].duration_ms),
        (Vital::HeartRate, 60_000)
    );
    assert_eq!(composite.conditions[1].operator, Operator::AtMost);
    for same in [camel, json!(snake.to_string())] {
        assert_eq!(valid(same).trigger, Trigger::Conditions(composite.clone()));
    }
}

#[test]
fn every_condition_that_cannot_work_is_named_by_its_place() {
    let good = json!({"physical_sign": "stress", "operator": "=", "threshold": 1});
    let with = |name: &str, value: serde_json::Value| {
        let mut condition = object(good.clone());
        condition.insert(name.to_owned(), value);
        json!({"conditions": [good.clone(), condition]})
    };
    for (expression, problem) in [
        (json!(null), "is missing"),
        (json!("{"), "is not JSON"),
        (json!({"conditions": []}), "list `conditions`"),
        (json!({"conditions": vec![good.clone(); 21]}), "list `conditions`"),
        (json!({"conditions": [good], "logical_operator": "XOR"}), "AND or OR"),
        (with("physical_sign", json!("mood")), "condition 2: mood is none of"),
        (with("physical_sign", json!(null)), "condition 2: physical_sign is missing"),
        (with("operator", json!("~")), "condition 2: operator must be"),
        (with("threshold", json!("x")), "condition 2: threshold must be"),
        (with("duration_seconds", json!(-1)), "condition 2: duration_seconds must"),
    ] {
        let RuleStatus::Invalid(problems) = checked(expression.clone()) else {
            panic!("{expression}")
        };
        assert_eq!(problems.len(), 1, "{problems:?}");
        let text = problems[0].to_string();
        assert!(text.starts_with("condition_expression: ") && text.contains(problem), "{text}");
    }
}
