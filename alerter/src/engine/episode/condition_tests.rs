use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::engine::routing::Routed;
use crate::engine::{Engine, StoredPartition};
use crate::rules::index::RuleSet;
use crate::test_support::{object, reading, rule};

/// Runs readings of one device, given by second and fields, under one rule. Returns its
/// transitions.
fn run(fields: Value, readings: &[(u32, Value)]) -> Vec<String> {
    let mut base = object(json!({"rule_category": "COMPOSITE", "physical_sign": null}));
    base.extend(object(fields));
    let mut engine = Engine::default();
    engine.set_rules(Arc::new(RuleSet::new(vec![rule(Value::Object(base))])));
    engine.load(0, StoredPartition::default());
    let mut seen = Vec::new();
    for (second, fields) in readings {
        let mut all = object(json!({
            "device_sn": "A1", "customer_id": 7,
            "timestamp": format!("2025-09-02 12:{:02}:{:02}", second / 60, second % 60),
        }));
        all.extend(object(fields.clone()));
        let evaluated = engine.evaluate(0, &reading(Value::Object(all)), &Routed::Somebody);
        seen.extend(
            evaluated.changes.iter().map(|c| format!("{second}: {}", c.transition.to.as_str())),
        );
        // As after a crash at any moment: the state passes through its stored form.
        engine = stored_and_loaded(engine);
    }
    seen
}

fn stored_and_loaded(mut engine: Engine) -> Engine {
    let devices = engine.as_stored(0);
    engine.forget(0);
    engine.load(0, devices);
    engine
}

fn both(seconds: u32) -> Value {
    json!({
        "conditions": [
            {"physical_sign": "heart_rate", "operator": ">", "threshold": 100, "duration_seconds": seconds},
            {"physical_sign": "blood_oxygen", "operator": "<", "threshold": 92},
        ],
    })
}

#[test]
fn signs_of_one_second_are_evaluated_together_in_either_order() {
    let heart = |second, value: i32| (second, json!({"heart_rate": value}));
    let oxygen = |second, value: i32| (second, json!({"blood_oxygen": value}));
    let expression = json!({"condition_expression": both(0)});
    for order in [[heart(0, 110), oxygen(0, 90)], [oxygen(0, 90), heart(0, 110)]] {
        assert_eq!(run(expression.clone(), &order), ["0: opened"]);
    }
    let apart = [heart(0, 110), oxygen(1, 90), heart(2, 110)];
    assert_eq!(run(expression, &apart), [""; 0], "what is absent is not true");
}

#[test]
fn a_run_is_not_broken_by_the_half_of_a_second() {
    let trend = json!({"condition_expression": both(0), "trend_duration": 3});
    let mut readings = Vec::new();
    for second in 0..3 {
        readings.push((second, json!({"heart_rate": 110})));
        readings.push((second, json!({"blood_oxygen": 90})));
    }
    assert_eq!(run(trend, &readings), ["2: opened"]);
}

#[test]
fn a_second_counts_once_though_a_part_of_it_ended_an_episode() {
    let fields = json!({
        "condition_expression": {
            "conditions": [
                {"physical_sign": "heart_rate", "operator": ">", "threshold": 100},
                {"physical_sign": "blood_oxygen", "operator": "<", "threshold": 92},
                {"physical_sign": "stress", "operator": ">", "threshold": 50},
            ],
            "logical_operator": "OR",
        },
        "trend_duration": 2,
    });
    let readings = [
        (0, json!({"heart_rate": 110})),
        (1, json!({"heart_rate": 110})),
        (2, json!({"heart_rate": 90})),
        (2, json!({"blood_oxygen": 90})),
        (2, json!({"stress": 60})),
        (3, json!({"stress": 60})),
    ];
    assert_eq!(run(fields, &readings), ["1: opened", "2: resolved", "3: opened"]);
}

#[test]
fn an_older_second_changes_nothing() {
    let expression = json!({"condition_expression": {
        "conditions": [
            {"physical_sign": "heart_rate", "operator": ">", "threshold": 100},
            {"physical_sign": "stress", "operator": ">", "threshold": 50},
        ],
        "logical_operator": "OR",
    }});
    // The stress of second 5 is newer than before, but the rule has evaluated second 10.
    let readings = [
        (10, json!({"heart_rate": 110})),
        (5, json!({"stress": 10})),
        (11, json!({"heart_rate": 90})),
    ];
    assert_eq!(run(expression.clone(), &readings), ["10: opened", "11: resolved"]);
    // The same if the rule kept no state in second 10.
    let readings = [(10, json!({"heart_rate": 90})), (5, json!({"stress": 60}))];
    assert_eq!(run(expression, &readings), [""; 0]);
}

proptest! {
    /// Compares with the plainest implementation: condition by condition over whole seconds.
    #[test]
    fn durations_hold_as_a_plain_model_says(
        values in proptest::collection::vec((0_u32..40, 90_i32..115, proptest::option::of(88_i32..96)), 1..40),
        seconds in 0_u32..90,
    ) {
        let mut second = 0;
        let readings: Vec<(u32, Value)> = values
            .iter()
            .map(|(gap, heart, oxygen)| {
                second += gap + 1;
                (second, json!({"heart_rate": heart, "blood_oxygen": oxygen}))
            })
            .collect();
        let fields = json!({"condition_expression": both(seconds), "cooldown_seconds": 0});
        let found = run(fields, &readings);

        let (mut since, mut open, mut expected) = (None, false, Vec::new());
        for ((at, _), (_, heart, oxygen)) in readings.iter().zip(&values) {
            since = (*heart > 100).then(|| since.unwrap_or(*at));
            let held = since.is_some_and(|since| at - since >= seconds);
            let breach = held && oxygen.is_some_and(|oxygen| oxygen < 92);
            if breach != open {
                open = breach;
                expected.push(format!("{at}: {}", if open { "opened" } else { "resolved" }));
            }
        }
        prop_assert_eq!(found, expected);
    }
}
