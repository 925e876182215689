use super::tests::{BREACH, CLEAR, NOBODY, breaches, policy, run, step};
use super::*;
use crate::engine::routing::{LATE_AFTER_MS, OwedReason, Routed};
use crate::rules::{Escalation, Severity};

/// A step: the second, the verdict, and whom a notification can reach.
type RoutedStep = (i64, Verdict, Routed);

/// Like [`run`], with the answer of the router at each step. `~` marks a follow-up.
fn routed(policy: &Policy, steps: &[RoutedStep]) -> Vec<String> {
    let mut episode = Episode::default();
    let mut seen = Vec::new();
    for (second, verdict, routed) in steps {
        let (next, transition) = step(episode, policy, verdict, second * 1000, *routed);
        episode = next;
        let Some(transition) = transition else { continue };
        let notified = if transition.notify { "!" } else { "" };
        let follow_up = if transition.follow_up { "~" } else { "" };
        let (to, severity) = (transition.to.as_str(), transition.severity.as_str());
        seen.push(format!("{second}: {to} {severity}{notified}{follow_up}"));
    }
    seen
}

#[test]
fn what_nobody_could_be_notified_of_is_notified_at_the_next_breach() {
    let policy = policy();
    let yes = Routed::Somebody;
    let steps = [(0, BREACH, NOBODY), (1, BREACH, NOBODY), (2, BREACH, yes), (3, CLEAR, yes)];
    let expected = ["0: opened major", "2: notified major!", "3: resolved major!~"];
    assert_eq!(routed(&policy, &steps), expected);
    let over = [(0, BREACH, NOBODY), (2, CLEAR, yes), (3, BREACH, yes)];
    let expected = ["0: opened major", "2: resolved major~", "3: opened major!"];
    assert_eq!(routed(&policy, &over), expected, "nobody heard of the opening, no cooldown runs");
}

#[test]
fn an_owed_rise_is_recorded_when_it_is_due_and_notified_without_waiting_for_the_cooldown() {
    let step = |after_ms: i64, to| Escalation { after_ms, to };
    let escalation = vec![step(60_000, Severity::Critical), step(120_000, Severity::Minor)];
    let policy = Policy { escalation, ..policy() };
    let yes = Routed::Somebody;
    let rise = [(0, BREACH, yes), (60, BREACH, NOBODY), (70, BREACH, yes), (80, CLEAR, NOBODY)];
    let expected = [
        "0: opened major!",
        "60: escalated critical",
        "70: notified critical!",
        "80: resolved critical!~",
    ];
    assert_eq!(routed(&policy, &rise), expected);
    let later = [
        (0, BREACH, yes),
        (60, BREACH, NOBODY),
        (70, BREACH, NOBODY),
        (120, BREACH, NOBODY),
        (130, BREACH, yes),
    ];
    let expected = [
        "0: opened major!",
        "60: escalated critical",
        "120: escalated minor~",
        "130: notified minor!",
    ];
    assert_eq!(routed(&policy, &later), expected, "once, as it stands");
}

#[test]
fn reminders_and_falls_go_to_those_who_were_notified() {
    let escalation = vec![Escalation { after_ms: 60_000, to: Severity::Minor }];
    let policy = Policy { cooldown_ms: 0, repeat_ms: Some(30_000), escalation, ..policy() };
    let yes = Routed::Somebody;
    let steps = [
        (0, BREACH, yes),
        (30, BREACH, yes),
        (60, BREACH, yes),
        (90, BREACH, NOBODY),
        (95, BREACH, yes),
    ];
    let expected = [
        "0: opened major!",
        "30: notified major!~",
        "60: escalated minor!~",
        "90: notified minor~",
        "95: notified minor!~",
    ];
    assert_eq!(routed(&policy, &steps), expected);
}

#[test]
fn a_late_opening_is_owed_until_a_young_breach_or_a_look() {
    let policy = policy();
    let wall = LATE_AFTER_MS + 60_000;
    let route = || Routed::Nobody(OwedReason::Late);
    let late = StepContext {
        policy: &policy,
        verdict: BREACH,
        at: 0,
        wall,
        route: &route,
        inhibited: &|_| false,
    };
    let (open, transition) = Episode::default().step(&late);
    let transition = transition.unwrap();
    assert_eq!(transition.routed, Some(Routed::Nobody(OwedReason::Late)));
    let (open, none) = open.step(&StepContext { at: 10_000, ..late });
    assert_eq!((none, open.owes()), (None, true), "a late breach is no try");

    let young = StepContext { at: 120_000, route: &|| Routed::Somebody, ..late };
    let look = StepContext { at: wall, ..young };
    for (notified, transition) in [open.clone().step(&young), open.clone().look(&look)] {
        let transition = transition.unwrap();
        assert!(transition.notify && transition.delayed, "it became due long ago");
        assert!(!notified.owes() && !transition.on_watch);
        let (_, end) = notified.step(&StepContext { verdict: CLEAR, ..late });
        assert!(end.unwrap().notify && end.unwrap().delayed, "an end at any age, marked");
    }
    let (_, end) = open.step(&StepContext { verdict: CLEAR, ..young });
    assert!(!end.unwrap().notify, "over while owed");
}

#[test]
fn a_look_starts_no_cooldown_of_a_device_whose_clock_is_slow() {
    let policy = Policy { repeat_ms: Some(600_000), ..policy() };
    let wall = 8 * 3_600_000;
    let (late, yes) = (|| Routed::Nobody(OwedReason::Late), || Routed::Somebody);
    let opening = StepContext {
        policy: &policy,
        verdict: BREACH,
        at: 0,
        wall,
        route: &late,
        inhibited: &|_| false,
    };
    let (open, _) = Episode::default().step(&opening);
    let at = |at: i64| StepContext { at, route: &yes, ..opening };
    let (notified, transition) = open.look(&at(wall));
    assert!(transition.unwrap().notify);
    let (going_on, none) = notified.step(&at(70_000));
    assert_eq!(none, None);
    let (_, reminder) = going_on.clone().step(&at(670_000));
    assert!(reminder.unwrap().notify, "a reminder counts from the first reading after the look");
    let (over, _) = going_on.step(&StepContext { verdict: CLEAR, ..at(80_000) });
    let (_, opened) = over.step(&at(670_000));
    assert!(opened.unwrap().notify, "and so does the cooldown");
}

#[test]
fn the_first_try_that_finds_nobody_is_recorded_once_whatever_was_owed_before() {
    let policy = Policy { cooldown_ms: 0, repeat_ms: Some(30_000), ..policy() };
    let silenced = Routed::Nobody(OwedReason::Silenced);
    let yes = Routed::Somebody;
    let steps = [
        (0, BREACH, silenced),
        (10, BREACH, NOBODY),
        (20, BREACH, NOBODY),
        (30, BREACH, yes),
        (60, BREACH, NOBODY),
        (70, BREACH, silenced),
        (80, BREACH, NOBODY),
        (90, BREACH, yes),
    ];
    let expected = [
        "0: opened major",
        "10: notified major",
        "30: notified major!",
        "60: notified major~",
        "90: notified major!~",
    ];
    assert_eq!(routed(&policy, &steps), expected);
}

#[test]
fn a_critical_opening_after_a_notified_end_waits_for_no_cooldown() {
    let critical = Policy { severity: Severity::Critical, ..policy() };
    let pairs = breaches(&[0, 60]);
    let expected = [
        "0: opened critical!",
        "2: resolved critical!",
        "60: opened critical!",
        "62: resolved critical!",
    ];
    assert_eq!(run(&critical, &pairs), expected);
    let major = run(&policy(), &pairs);
    assert_eq!(major[2..], ["60: opened major", "62: resolved major"]);
    // A changed rule closes without a notification.
    let (open, _) = step(Episode::default(), &critical, &BREACH, 0, Routed::Somebody);
    let (_, opened) = step(open.supersede().0, &critical, &BREACH, 60_000, Routed::Somebody);
    assert!(!opened.unwrap().notify);
}

#[test]
fn the_form_of_the_last_version_reads_as_an_episode_that_owes_nothing() {
    let stored = r#"{"phase":{"firing":{"opened_at":0,"severity":"major","notified":false,"steps":0,
        "transitions":1}},"openings":[0]}"#;
    let episode: Episode = serde_json::from_str(stored).unwrap();
    assert!(episode.open().is_some() && !episode.owes());
    let (_, transition) = step(episode, &policy(), &BREACH, 1_000, Routed::Somebody);
    assert!(transition.unwrap().notify);
}
