//! Tests of `TopicChecks`: a table of answers, and what follows from each.

use std::collections::BTreeMap;

use super::checks::{
    CHECK_INTERVAL, CheckResult, EMPTY_ANSWERS_MIN, LogLine, MISSING_ANSWERS_MIN, Outcome,
    RETRY_INTERVAL, TopicChecks,
};
use super::state::{Level, TopicRole, TopicState, WatchedTopic};

/// The answers about all topics, the result that follows, and the lines of the log.
type Step = (Result<Vec<TopicState>, &'static str>, &'static str, &'static [&'static str]);

/// A topic with these settings only, which is safe without any.
fn topic(settings: &[(&str, &str)]) -> TopicState {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let settings: BTreeMap<_, _> = settings.iter().map(owned).collect();
    TopicState { partitions: 12, replicas: 3, brokers: 3, settings: Some(settings) }
}

fn compacted() -> TopicState {
    topic(&[("cleanup.policy", "compact"), ("compression.type", "gzip")])
}

fn without_settings() -> TopicState {
    TopicState { settings: None, ..topic(&[]) }
}

fn missing() -> TopicState {
    TopicState { brokers: 3, ..TopicState::default() }
}

fn checks(roles: &[(&str, TopicRole)]) -> TopicChecks {
    let watched = |(name, role): &(&str, TopicRole)| WatchedTopic {
        name: (*name).to_owned(),
        role: *role,
        record_bytes: 0,
    };
    TopicChecks::new(roles.iter().map(watched).collect(), false, false)
}

fn of_readings() -> TopicChecks {
    checks(&[("readings", TopicRole::Readings)])
}

fn result(outcome: &Outcome) -> &'static str {
    match &outcome.result {
        None => "kept",
        Some(CheckResult::Unchecked(_)) => "unchecked",
        Some(CheckResult::Checked(None)) => "safe",
        Some(CheckResult::Checked(Some(_))) => "refused",
    }
}

fn line(line: &LogLine) -> String {
    match line {
        LogLine::Checked => "checked".into(),
        LogLine::Incomplete(reason) => format!("incomplete: {reason}"),
        LogLine::Unsafe(_, finding) if finding.level == Level::Refused => {
            format!("refused {}", finding.setting)
        }
        LogLine::Unsafe(_, finding) => format!("warned {}", finding.setting),
        LogLine::Safe(_, setting) => format!("safe {setting}"),
    }
}

/// Takes one answer and compares what follows.
fn step(checks: &mut TopicChecks, (answers, expected, lines): Step, name: &str) {
    let outcome = checks.take(answers.map_err(anyhow::Error::msg));
    assert_eq!(result(&outcome), expected, "{name}: {outcome:?}");
    let logged: Vec<_> = outcome.lines.iter().map(line).collect();
    assert_eq!(logged, lines, "{name}");
    let wait = if expected == "safe" { CHECK_INTERVAL } else { RETRY_INTERVAL };
    assert_eq!(outcome.wait, wait, "{name}");
}

fn steps<const N: usize>(checks: &mut TopicChecks, steps: [Step; N]) {
    for (number, each) in steps.into_iter().enumerate() {
        step(checks, each, &format!("step {number}"));
    }
}

#[test]
fn an_outage_keeps_the_result_and_is_logged_once_for_each_reason() {
    let compressed = || topic(&[("compression.type", "gzip")]);
    steps(
        &mut of_readings(),
        [
            (Err("down"), "unchecked", &["incomplete: down"]),
            (Err("down"), "unchecked", &[]),
            (Err("denied"), "unchecked", &["incomplete: denied"]),
            (Ok(vec![topic(&[])]), "safe", &["checked"]),
            (Ok(vec![topic(&[])]), "safe", &[]),
            (Err("down"), "kept", &["incomplete: down"]),
            (Err("down"), "kept", &[]),
            (
                Ok(vec![compacted()]),
                "refused",
                &["checked", "refused cleanup.policy", "warned compression.type"],
            ),
            (Ok(vec![compacted()]), "refused", &[]),
            (Err("down"), "kept", &["incomplete: down"]),
            (Ok(vec![compacted()]), "refused", &["checked"]),
            (Ok(vec![compressed()]), "safe", &["safe cleanup.policy"]),
            (Ok(vec![topic(&[])]), "safe", &["safe compression.type"]),
        ],
    );
}

#[test]
fn the_reason_of_the_first_outage_is_the_reason_against_use() {
    let outcome = of_readings().take(Err(anyhow::Error::msg("down")));
    let reason = "topics not checked yet: down".to_owned();
    assert_eq!(outcome.result, Some(CheckResult::Unchecked(reason)));
}

#[test]
fn settings_count_as_denied_after_several_answers_and_hide_no_earlier_finding() {
    const HIDDEN: &str = "incomplete: the brokers show no settings of topic readings";
    let mut checks = of_readings();
    let found = &["checked", "refused cleanup.policy", "warned compression.type"];
    step(&mut checks, (Ok(vec![compacted()]), "refused", found), "found");
    for answer in 1..EMPTY_ANSWERS_MIN {
        let lines: &[&str] = if answer == 1 { &[HIDDEN] } else { &[] };
        step(&mut checks, (Ok(vec![without_settings()]), "kept", lines), "doubt");
    }
    steps(
        &mut checks,
        [
            (Ok(vec![without_settings()]), "refused", &["checked", "warned rights"]),
            (Ok(vec![without_settings()]), "refused", &[]),
        ],
    );
    assert!(checks.is_unsafe("readings", "compression.type"), "a warning is hidden");
    let safe = &["safe cleanup.policy", "safe compression.type", "safe rights"];
    steps(
        &mut checks,
        [
            (Ok(vec![topic(&[])]), "safe", safe),
            (Ok(vec![without_settings()]), "kept", &[HIDDEN]),
            (Ok(vec![topic(&[])]), "safe", &["checked"]),
        ],
    );
}

#[test]
fn a_topic_that_existed_is_missing_after_two_answers_and_another_one_at_once() {
    assert_eq!(MISSING_ANSWERS_MIN, 2);
    let doubt = &["incomplete: topic readings seems to be missing"];
    steps(
        &mut of_readings(),
        [
            (Ok(vec![missing()]), "refused", &["checked", "refused existence"]),
            (Ok(vec![missing()]), "refused", &[]),
            (Ok(vec![topic(&[])]), "safe", &["safe existence"]),
            (Ok(vec![missing()]), "kept", doubt),
            (Ok(vec![topic(&[])]), "safe", &["checked"]),
            (Ok(vec![missing()]), "kept", doubt),
            (Ok(vec![missing()]), "refused", &["checked", "refused existence"]),
            (Ok(vec![missing()]), "refused", &[]),
        ],
    );
}

#[test]
fn partitions_are_compared_with_those_of_the_start() {
    let more = || TopicState { partitions: 13, ..topic(&[]) };
    steps(
        &mut of_readings(),
        [
            (Ok(vec![topic(&[])]), "safe", &["checked"]),
            (Ok(vec![more()]), "safe", &["warned partitions"]),
            (Ok(vec![more()]), "safe", &[]),
            (Ok(vec![topic(&[])]), "safe", &["safe partitions"]),
        ],
    );
}

#[test]
fn dead_letters_are_compared_with_the_readings_in_any_order() {
    let with = |partitions| TopicState { partitions, ..topic(&[]) };
    let mut checks = checks(&[("letters", TopicRole::DeadLetters), ("r", TopicRole::Readings)]);
    steps(
        &mut checks,
        [
            (Ok(vec![with(11), with(12)]), "refused", &["checked", "refused partitions"]),
            (Ok(vec![with(12), with(12)]), "safe", &["safe partitions"]),
        ],
    );
}

#[test]
fn two_topics_without_settings_are_counted_side_by_side() {
    let mut checks = checks(&[("a", TopicRole::Readings), ("b", TopicRole::Rejects)]);
    let hidden = || vec![without_settings(), without_settings()];
    for _ in 1..EMPTY_ANSWERS_MIN {
        let outcome = checks.take(Ok(hidden()));
        assert_eq!(result(&outcome), "unchecked", "{outcome:?}");
    }
    let denied = &["checked", "warned rights", "warned rights"];
    step(&mut checks, (Ok(hidden()), "safe", denied), "denied");
}
