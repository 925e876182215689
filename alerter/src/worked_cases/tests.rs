use std::path::Path;

use serde_json::json;

use super::*;

/// Returns the examples of a file.
fn cases(path: impl AsRef<Path>) -> Vec<Value> {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).expect("a file of examples");
    let file: Value = serde_json::from_str(&text).expect("JSON");
    file["cases"].as_array().expect("cases").clone()
}

/// Returns the examples of one of the repository's files.
fn own_cases(name: &str) -> Vec<Value> {
    cases(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases").join(name))
}

/// Plays examples. Returns how many held, and the names of those that are not played here.
fn held(cases: &[Value]) -> (usize, Vec<&str>) {
    let (mut held, mut elsewhere) = (0, Vec::new());
    for case in cases {
        let name = case["name"].as_str().unwrap();
        match play(case) {
            Outcome::Held => held += 1,
            Outcome::Failed(reason) => panic!("{name}: {reason}"),
            Outcome::NotHere(_) => elsewhere.push(name),
        }
    }
    (held, elsewhere)
}

#[test]
fn every_worked_example_of_rules_comes_out_as_written() {
    assert_eq!(held(&own_cases("alert_cases.json")), (30, Vec::new()));
}

#[test]
fn every_worked_example_of_notifications_that_is_built_and_needs_no_server_comes_out() {
    let elsewhere = vec![
        "who_is_refused_is_told_by_another_kind_at_once",
        "a_refused_address_is_tried_again_after_a_day",
        "a_broken_account_is_passed_over",
        "looking_acknowledges_nothing",
        "the_button_acknowledges_once",
    ];
    assert_eq!(held(&own_cases("alert2_cases.json")), (55, elsewhere));
}

#[test]
fn an_example_that_comes_out_otherwise_or_cannot_be_read_fails_with_the_reason() {
    let all = own_cases("alert2_cases.json");
    let named = |name: &str| all.iter().find(|case| case["name"] == name).unwrap().clone();
    let failure = |case: &Value| match play(case) {
        Outcome::Failed(reason) => reason,
        other => panic!("{other:?}: {case}"),
    };
    let mut case = named("thirty_minutes_are_young");
    case["transition"] = json!([]);
    assert_eq!(failure(&case), "the key transition is unknown");
    case = named("thirty_minutes_are_young");
    case.as_object_mut().unwrap().remove("transitions");
    assert_eq!(failure(&case), "it has no form that is played, or expects nothing");
    for (name, path, wrong, reason) in [
        ("thirty_minutes_are_young", "/transitions/0/notify", json!(false), "notify must be false"),
        ("thirty_minutes_are_young", "/transitions", json!([]), "0 transitions must come"),
        ("a_log_line_is_nobody", "/transitions/0/why", json!("late"), "why must be \"late\""),
        ("a_log_line_is_nobody", "/events/0/do", json!("dance"), "nothing plays the event"),
        ("a_log_line_is_nobody", "/rules/0/threshold_max", json!("x"), "rule 1 is [\"refused\""),
        ("no_day_at_all_is_refused", "/loads/1", json!(["valid"]), "rule 1 loads as"),
        ("the_watch_alone_is_not_everybody_a_rule_names", "/status/1", json!("NOTIFIED"), "status"),
        ("the_watch_alone_is_not_everybody_a_rule_names", "/operators", json!([]), "operators is"),
        ("the_watch_alone_is_not_everybody_a_rule_names", "/unreachable", json!([]), "unreachable"),
        ("alerts_of_one_reading_are_one_message", "/told/0/to", json!("openid:x"), "told is"),
        ("a_mark_comes_first", "/shown/keyword3", json!("x"), "shown is"),
        ("thirty_minutes_are_young", "/readings/0/timestamp", json!("noon"), "panicked: timestamp"),
    ] {
        let mut case = named(name);
        *case.pointer_mut(path).unwrap() = wrong;
        let found = failure(&case);
        assert!(found.contains(reason), "{name}: {found}");
    }
}

/// Plays a file of examples for `make alert-cases`. Writes each example that does not hold, with
/// the reason, and the count.
#[test]
#[ignore = "make alert-cases names the file"]
fn a_file_of_examples_holds() {
    let setting = |name: &str| std::env::var(name).expect(name);
    let cases = cases(setting("ALERT_CASES"));
    let (mut held, mut failed) = (0, 0);
    let mut lines = Vec::new();
    for case in &cases {
        let name = case["name"].as_str().unwrap_or("without a name");
        match play(case) {
            Outcome::Held => held += 1,
            Outcome::Failed(reason) => {
                failed += 1;
                lines.push(format!("{name}: {reason}"));
            }
            Outcome::NotHere(reason) => lines.push(format!("{name}: not run here, {reason}")),
        }
    }
    lines.push(format!("{held} of {} cases hold\n", cases.len()));
    std::fs::write(setting("ALERT_CASES_REPORT"), lines.join("\n")).expect("the report");
    assert!(failed == 0 && held > 0, "examples that do not hold, or none that does");
}
