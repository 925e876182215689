//! Evaluates one rule on one device at one reading.
//!
//! Pure. The verdict belongs to [`crate::engine::episode::evaluate`].

use std::sync::Arc;

use ljwx_reading::Ids;

use crate::engine::device::{Device, RuleState, VitalTimes};
use crate::engine::episode::StepContext;
use crate::engine::episode::evaluate::evaluate;
use crate::engine::outcome::{Arrival, Change, EventTime};
use crate::engine::owed_index::TouchedStates;
use crate::engine::routing::{DueNotification, Question, Router, RoutingAt};
use crate::rules::rule::{Rule, Trigger};
use crate::rules::verdict::Verdict;
use crate::rules::vital::VitalSet;

/// Returns the rule's verdict on the `fresh` vitals of a reading, and the change that follows. The
/// error names the people to look up first; then nothing has changed.
pub(super) fn step(
    device: &mut Device,
    rule: &Arc<Rule>,
    fresh: VitalSet,
    arrival: &Arrival<'_>,
    router: &dyn Router,
    touched: &mut TouchedStates,
) -> Result<(Verdict, Option<Change>), Ids> {
    let reading = arrival.reading;
    let sn = reading.device_sn();
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
    let routing = RoutingAt { router, now_ms: arrival.evaluated_ms };
    let question = Question::new(routing, DueNotification { ids, device_sn: sn, rule });
    let context = StepContext {
        policy: &rule.policy,
        at: reading.epoch_ms(),
        late: arrival.is_late(),
        route: &|| question.route(),
    };
    let (after, transition) = before.step(&context, &verdict);
    if question.is_unknown() {
        if !prior.is_default() {
            device.tracked.insert(rule.id, prior);
        }
        return Err(ids);
    }
    if transition.is_some()
        && let Some(memory) = &mut memory
    {
        memory.transition_made();
    }
    let memory = memory.filter(|memory| !memory.is_default());
    let next = RuleState { version: rule.version, ids, episode: after, memory };
    if next.episode != prior.episode || next.memory != prior.memory || outdated {
        touched.stepped.insert((rule.id, sn.clone()));
    }
    let owes = [prior.episode.owes(), next.episode.owes()];
    touched.owed.step((sn, rule.id), owes, question.was_asked(), arrival.evaluated_ms);
    if !next.is_default() {
        device.tracked.insert(rule.id, next);
    }
    let at = EventTime { ms: reading.epoch_ms(), wall: reading.timestamp() };
    let change = transition.map(|transition| Change::of(rule, (sn, ids), transition, verdict, at));
    Ok((verdict, change))
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
