use proptest::prelude::*;

use super::*;
use crate::engine::routing::{OwedReason, Routed};
use crate::rules::{Escalation, FlapLimits, Measurement, Severity, Vital};

pub(super) fn policy() -> Policy {
    Policy {
        trend: 1,
        window_ms: 300_000,
        clear_after: 1,
        cooldown_ms: 600_000,
        repeat_ms: None,
        severity: Severity::Major,
        escalation: Vec::new(),
        flap: FlapLimits { openings: 4, window_ms: 600_000 },
    }
}

const MEASURED: Measurement = Measurement { vital: Vital::HeartRate, value: 1.0 };

pub(super) const BREACH: Verdict =
    Verdict::Breach { measured: MEASURED, bound: 0.0, may_open: true };

const GATED: Verdict = Verdict::Breach { measured: MEASURED, bound: 0.0, may_open: false };

pub(super) const CLEAR: Verdict = Verdict::Clear(MEASURED);

const BETWEEN: Verdict = Verdict::Between(MEASURED);

pub(super) const NOBODY: Routed = Routed::Nobody(OwedReason::NoRecipient);

/// Steps with a router that always gives the same answer.
pub(super) fn step(
    episode: Episode,
    policy: &Policy,
    verdict: &Verdict,
    at: i64,
    routed: Routed,
) -> (Episode, Option<Transition>) {
    let (route, inhibited) = (|| routed, |_| false);
    let verdict = *verdict;
    let now = StepContext { policy, verdict, at, wall: at, route: &route, inhibited: &inhibited };
    episode.step(&now)
}

/// Runs verdicts given as `(second, verdict)`. Returns the transitions as `second: word`, with `!`
/// if notified.
pub(super) fn run(policy: &Policy, verdicts: &[(i64, Verdict)]) -> Vec<String> {
    let mut episode = Episode::default();
    let mut seen = Vec::new();
    for (second, verdict) in verdicts {
        let (next, transition) = step(episode, policy, verdict, second * 1000, Routed::Somebody);
        episode = next;
        if let Some(transition) = transition {
            let notified = if transition.notify { "!" } else { "" };
            let (to, severity) = (transition.to.as_str(), transition.severity.as_str());
            seen.push(format!("{second}: {to} {severity}{notified}"));
        }
    }
    seen
}

#[test]
fn outside_its_hours_a_run_goes_on_and_opens_at_the_first_reading_inside() {
    let policy = Policy { trend: 2, ..policy() };
    let verdicts = [(0, GATED), (10, GATED), (20, GATED), (30, BREACH)];
    assert_eq!(run(&policy, &verdicts), ["30: opened major!"]);
}

#[test]
fn a_value_between_the_clear_bounds_and_the_threshold_resets_run_and_recovery() {
    let policy = Policy { trend: 2, clear_after: 2, ..policy() };
    let verdicts = [
        (0, BREACH),
        (10, BETWEEN),
        (20, BREACH),
        (30, BREACH),
        (40, CLEAR),
        (50, BETWEEN),
        (60, CLEAR),
        (70, Verdict::Absent),
        (80, CLEAR),
    ];
    assert_eq!(run(&policy, &verdicts), ["30: opened major!", "80: resolved major!"]);
}

#[test]
fn a_breach_while_recovering_is_the_same_episode() {
    let policy = Policy { clear_after: 2, ..policy() };
    let verdicts = [(0, BREACH), (10, CLEAR), (20, BREACH), (30, CLEAR), (40, CLEAR)];
    assert_eq!(run(&policy, &verdicts), ["0: opened major!", "40: resolved major!"]);
}

#[test]
fn an_escalation_breaks_the_cooldown_and_starts_one() {
    let escalation = vec![
        Escalation { after_ms: 60_000, to: Severity::Critical },
        Escalation { after_ms: 120_000, to: Severity::Info },
    ];
    let policy = Policy { escalation, repeat_ms: Some(1_000), ..policy() };
    let verdicts = [
        (0, BREACH),
        (60, BREACH),
        (61, BREACH),
        (120, BREACH),
        (719, BREACH),
        (720, BREACH),
        (730, CLEAR),
    ];
    assert_eq!(
        run(&policy, &verdicts),
        [
            "0: opened major!",
            "60: escalated critical!",
            "120: escalated info!",
            "720: notified info!",
            "730: resolved info!",
        ]
    );
    let after_a_silence = [(0, BREACH), (500, BREACH)];
    assert_eq!(run(&policy, &after_a_silence), ["0: opened major!", "500: escalated info!"]);
}

#[test]
fn a_changed_rule_closes_silently_and_the_cooldown_goes_on() {
    let policy = policy();
    let (open, _) = step(Episode::default(), &policy, &BREACH, 0, Routed::Somebody);
    let (after, transition) = open.supersede();
    let transition = transition.unwrap();
    assert_eq!(
        (transition.to, transition.notify, transition.seq),
        (TransitionKind::Superseded, false, 1)
    );
    let (_, transition) = step(after.clone(), &policy, &BREACH, 10_000, Routed::Somebody);
    assert!(!transition.unwrap().notify);
    let (blank, _) = step(after, &policy, &CLEAR, 600_000, Routed::Somebody);
    assert!(blank.is_default(), "a cooldown that is over is forgotten");
    assert_eq!(Episode::default().supersede(), (Episode::default(), None));
}

#[test]
fn the_stored_form_reads_back() {
    let policy = Policy { trend: 2, clear_after: 2, ..policy() };
    let mut episode = Episode::default();
    for (second, verdict) in [(0, BREACH), (10, BREACH), (20, CLEAR)] {
        for routed in [Routed::Somebody, NOBODY] {
            let next = step(episode.clone(), &policy, &verdict, second, routed).0;
            let stored = serde_json::to_string(&next).unwrap();
            assert_eq!(serde_json::from_str::<Episode>(&stored).unwrap(), next, "{stored}");
        }
        episode = step(episode, &policy, &verdict, second, NOBODY).0;
    }
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![Just(BREACH), Just(GATED), Just(CLEAR), Just(BETWEEN), Just(Verdict::Absent)]
}

fn any_policy() -> impl Strategy<Value = Policy> {
    (1_usize..4, 1_u32..4, 0_i64..100, proptest::option::of(1_i64..100)).prop_map(
        |(trend, clear_after, cooldown, repeat)| Policy {
            trend,
            clear_after,
            cooldown_ms: cooldown * 1000,
            repeat_ms: repeat.map(|seconds| seconds * 1000),
            escalation: vec![Escalation { after_ms: 50_000, to: Severity::Critical }],
            ..policy()
        },
    )
}

proptest! {
    #[test]
    fn openings_and_ends_take_turns(
        policy in any_policy(),
        verdicts in proptest::collection::vec((1_i64..60, any_verdict()), 0..200),
    ) {
        let (mut episode, mut at, mut seq) = (Episode::default(), 0, None);
        let mut notified_at: Option<i64> = None;
        for (gap, verdict) in verdicts {
            at += gap * 1000;
            let (next, transition) = step(episode, &policy, &verdict, at, Routed::Somebody);
            episode = next;
            let Some(transition) = transition else { continue };
            prop_assert_eq!(seq.is_none(), transition.to == TransitionKind::Opened);
            prop_assert_eq!(transition.seq, seq.map_or(0, |seq: u32| seq + 1));
            seq = (transition.to != TransitionKind::Resolved).then_some(transition.seq);
            if transition.notify && transition.to != TransitionKind::Resolved {
                let silence = notified_at.map_or(i64::MAX, |notified| at - notified);
                prop_assert!(silence >= policy.cooldown_ms || transition.to == TransitionKind::Escalated);
                notified_at = Some(at);
            }
        }
        prop_assert_eq!(episode.open().is_some(), seq.is_some());
    }
}

/// Returns breaches at these seconds, each cleared two seconds later.
pub(super) fn breaches(seconds: &[i64]) -> Vec<(i64, Verdict)> {
    seconds.iter().flat_map(|second| [(*second, BREACH), (second + 2, CLEAR)]).collect()
}

fn notified(policy: &Policy, verdicts: &[(i64, Verdict)]) -> Vec<String> {
    run(policy, verdicts).into_iter().filter(|line| line.ends_with('!')).collect()
}

#[test]
fn flapping_is_notified_once_and_then_not_until_it_settles() {
    let policy = Policy { cooldown_ms: 0, ..policy() };
    let often: Vec<i64> = (0..40).map(|n| n * 60).collect();
    let mut verdicts = breaches(&often);
    let first: Vec<String> = [0, 60, 120]
        .iter()
        .flat_map(|at| [format!("{at}: opened major!"), format!("{}: resolved major!", at + 2)])
        .chain(["180: opened major!".to_owned()])
        .collect();
    assert_eq!(
        notified(&policy, &verdicts),
        first,
        "the fourth is notified as flapping, then none"
    );

    // After ten minutes without an opening, flapping has ended.
    verdicts.extend(breaches(&[39 * 60 + 600]));
    assert_eq!(notified(&policy, &verdicts)[7..], ["2940: opened major!", "2942: resolved major!"]);
}

#[test]
fn an_escalation_and_a_breach_that_stays_are_notified_though_it_flaps() {
    let step = Escalation { after_ms: 300_000, to: Severity::Critical };
    let policy = Policy { cooldown_ms: 0, escalation: vec![step], ..policy() };
    let mut verdicts = breaches(&[0, 60, 120, 180, 240]);
    verdicts.extend([(300, BREACH), (600, BREACH)]);
    assert_eq!(notified(&policy, &verdicts)[7..], ["600: escalated critical!"]);

    let policy = Policy { cooldown_ms: 0, ..self::policy() };
    let mut verdicts = breaches(&[0, 60, 120, 180, 240]);
    verdicts.extend([(300, BREACH), (600, BREACH), (899, BREACH), (900, BREACH)]);
    assert_eq!(notified(&policy, &verdicts)[7..], ["900: notified major!"]);
}

#[test]
fn an_end_is_notified_once_flapping_has_settled_though_nothing_breached_meanwhile() {
    let policy = Policy { cooldown_ms: 0, ..policy() };
    for (end, expected) in [(779, &[][..]), (780, &["780: resolved major!"][..])] {
        let mut verdicts = breaches(&[0, 60, 120]);
        verdicts.extend([(180, BREACH), (end, CLEAR)]);
        assert_eq!(notified(&policy, &verdicts)[7..], *expected, "{end}");
    }
}

#[test]
fn within_the_cooldown_flapping_waits_like_everything_else() {
    let verdicts = breaches(&[0, 100, 200, 300, 400, 500, 600, 700]);
    let expected = ["0: opened major!", "2: resolved major!", "600: opened major!"];
    assert_eq!(notified(&policy(), &verdicts), expected);
}
