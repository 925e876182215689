//! The invariants of the transitions of any rules and any readings.

use std::collections::BTreeMap;

use super::spec::{ExpectedTransition, Spec};

/// The state of a rule on a device, as its transitions show it.
#[derive(Default)]
struct EpisodeCheck {
    open: Option<Vec<ExpectedTransition>>,
    /// Event of the last notification.
    notified_at: Option<usize>,
    /// Whether the end of the last episode was notified.
    end_notified: bool,
}

/// Panics if an invariant does not hold. `seconds` are the seconds of the events that have one.
pub(super) fn check(rules: &[Spec], seconds: &[Option<i64>], lines: &[ExpectedTransition]) {
    let mut standings: BTreeMap<(i64, usize), EpisodeCheck> = BTreeMap::new();
    for line in lines {
        let standing = standings.entry((line.rule, line.device)).or_default();
        if line.to == "opened" {
            assert!(standing.open.is_none(), "opened twice: {line:?}");
            standing.open = Some(Vec::new());
        }
        let notified_before = standing.open.iter().flatten().any(|before| before.notify);
        let over = line.to == "opened" && std::mem::take(&mut standing.end_notified);
        let Some(episode) = &mut standing.open else { panic!("without an episode: {line:?}") };
        assert_eq!(line.seq, episode.len(), "{line:?}");
        if let Some(opening) = episode.first() {
            assert_eq!(line.opened_at, opening.opened_at, "another episode: {line:?}");
        }
        episode.push(line.clone());
        match line.to {
            "resolved" => {
                assert!(notified_before || !line.notify, "an end notified alone: {line:?}");
                standing.end_notified = line.notify;
                standing.open = None;
            }
            "superseded" => {
                assert!(!line.notify, "an edit notified: {line:?}");
                standing.open = None;
            }
            _ if line.notify => {
                let rule = rules.iter().find(|rule| rule.id == line.rule).expect("a rule of these");
                let second = seconds[line.event].expect("a reading or a look");
                // A reading of an earlier time takes the place of a notification by the clock.
                let since = |notified: usize| seconds[notified..=line.event].iter().flatten().min();
                let since = standing.notified_at.and_then(since);
                let cool = since.is_none_or(|at| second - at >= rule.cooldown);
                let anew = over && rule.severity == "critical";
                // What is owed became due by a transition that nobody was notified of.
                let before = episode.iter().rev().skip(1).take_while(|before| !before.notify);
                let owed = before.count() > 0 && line.to == "notified";
                let free = cool || anew || owed || line.to == "escalated";
                assert!(free, "within the cooldown: {line:?}");
                standing.notified_at = Some(line.event);
            }
            _ => assert!(!line.on_watch, "recorded twice: {line:?}"),
        }
    }
}
