//! Evaluates one rule on one device at one reading.
//!
//! Pure. The verdict belongs to [`crate::engine::episode::evaluate`].

use std::collections::BTreeSet;
use std::sync::Arc;

use ljwx_reading::DeviceSn;

use crate::engine::device::{Device, RuleState, VitalTimes};
use crate::engine::episode::evaluate::evaluate;
use crate::engine::outcome::{Arrival, Change, EventTime};
use crate::rules::rule::{Rule, Trigger};
use crate::rules::verdict::Verdict;
use crate::rules::vital::VitalSet;

/// Returns the rule's verdict on the `fresh` vitals of a reading, and the change that follows.
/// `stepped` receives the states to write.
pub(super) fn step(
    device: &mut Device,
    rule: &Arc<Rule>,
    fresh: VitalSet,
    arrival: &Arrival<'_>,
    stepped: &mut BTreeSet<(i64, DeviceSn)>,
) -> (Verdict, Option<Change>) {
    let reading = arrival.reading;
    let prior = device.tracked.remove(&rule.id);
    let prior =
        prior.unwrap_or_else(|| RuleState { version: rule.version, ..RuleState::default() });
    // A device that changes its tenant may bring state of an older version. The state has no open
    // episode, because realigning closes it.
    let outdated = prior.version != rule.version;
    let (now, memory) = if outdated {
        (prior.episode.clone().supersede().0, None)
    } else {
        (prior.episode.clone(), prior.memory.clone())
    };
    let ids = if now.open().is_none() { arrival.ids } else { prior.ids };
    let (before, verdict, mut memory) = evaluate(rule, now, memory, fresh, reading);
    let (after, transition) = before.clone().step(&rule.policy, &verdict, reading.epoch_ms());
    if transition.is_some()
        && let Some(memory) = &mut memory
    {
        memory.transition_made();
    }
    let memory = memory.filter(|memory| !memory.is_default());
    let next = RuleState { version: rule.version, ids, episode: after, memory };
    if next.episode != prior.episode || next.memory != prior.memory || outdated {
        stepped.insert((rule.id, reading.device_sn().clone()));
    }
    if !next.is_default() {
        device.tracked.insert(rule.id, next);
    }
    let change = transition.map(|transition| Change {
        rule: Some(Arc::clone(rule)),
        rule_id: rule.id,
        rule_version: rule.version,
        device_sn: reading.device_sn().clone(),
        ids,
        transition,
        verdict,
        at: EventTime { ms: reading.epoch_ms(), wall: reading.timestamp() },
        before,
    });
    (verdict, change)
}

/// Whether the rule has evaluated a later second of the device than `at`. One of several vitals may
/// be newer than before in a second that another vital has passed.
pub(super) fn is_past(rule: &Rule, at: i64, seen: &VitalTimes) -> bool {
    match &rule.trigger {
        // A newer value of the only vital is always the latest.
        Trigger::Range(_) | Trigger::NoData(_) => false,
        Trigger::Conditions(composite) => {
            composite.watched_vitals().any(|sign| seen.last(sign) > Some(at))
        }
    }
}
