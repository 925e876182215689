//! Makes a step of a rule's episode on a device, unless people must be looked up first.
//!
//! Pure. The verdict belongs to [`crate::engine::episode::evaluate`].

use std::cell::Cell;
use std::sync::Arc;

use ljwx_reading::{DeviceSn, Ids, Reading};

use crate::engine::device::{Device, RuleState, VitalTimes, tenant};
use crate::engine::episode::evaluate::{EvaluationState, evaluate};
use crate::engine::episode::{Episode, EpisodeKey, StepContext, Stepped};
use crate::engine::ladder;
use crate::engine::outcome::{Change, EventTime};
use crate::engine::owed::index::TouchedStates;
use crate::engine::routing::{Basis, OwedReason, Routed, is_late};
use crate::rules::{Measurement, Range, Rule, Trigger, Verdict, Vital, VitalSet};

/// A step of a rule's episode on a device.
#[derive(Clone, Copy)]
pub struct RuleStep<'a> {
    /// The rule.
    pub rule: &'a Arc<Rule>,
    /// The device.
    pub device_sn: &'a DeviceSn,
    /// Event time.
    pub at: EventTime,
    /// The rules, among them those that may inhibit this one, and whom the step asks.
    pub basis: Basis<'a>,
}

impl RuleStep<'_> {
    /// Advances the episode, and returns the change that follows. The error names the people to look
    /// up first; then nothing has changed.
    pub fn make(
        &self,
        device: &mut Device,
        touched: &mut TouchedStates,
        (episode, mut memory): (Episode, Option<EvaluationState>),
        verdict: Verdict,
        advance: impl FnOnce(Episode, &StepContext<'_>) -> Stepped,
    ) -> Result<Option<Change>, Ids> {
        let Self { rule, device_sn, at, basis: Basis { rules, router, now_ms, .. } } = *self;
        let prior = device.tracked.get(&rule.id);
        let is_of_nobody = device.last_seen.ids.customer_id.is_none();
        let ids = match (episode.open(), prior) {
            (Some(open), Some(prior)) if open.notified => prior.ids,
            (Some(_), Some(prior)) if is_of_nobody && prior.ids.customer_id.is_some() => prior.ids,
            _ => device.last_seen.ids,
        };
        // Missing data has no age: the silence lasts until now.
        let wall = if rule.is_no_data() { at.ms } else { now_ms };
        // Whether the router knew. `None`: the step did not ask.
        let answered = Cell::new(None);
        let route = || {
            if !rule.channels.name_people() {
                return Routed::NoChannel;
            }
            if is_late(at.ms, wall) {
                return Routed::Nobody(OwedReason::Late);
            }
            let routed = router.route(ids, device_sn, rule);
            answered.set(Some(routed.is_some()));
            routed.unwrap_or(Routed::Nobody(OwedReason::NoRecipient))
        };
        let rungs = (&*device, rules.of(tenant(ids)), at.ms);
        let inhibited = |severity| ladder::is_inhibited(rungs, (rule, severity), &verdict);
        let context = StepContext {
            policy: &rule.policy,
            verdict,
            at: at.ms,
            wall,
            route: &route,
            inhibited: &inhibited,
        };
        let (episode, transition) = advance(episode, &context);
        if answered.get() == Some(false) {
            return Err(ids);
        }
        if transition.is_some()
            && let Some(memory) = &mut memory
        {
            memory.transition_made();
        }
        let memory = memory.filter(|memory| !memory.is_default());
        let worn_by = ids.user_id.or(prior.and_then(|prior| prior.worn_by));
        let was_bound = prior.is_some_and(|prior| prior.is_bound);
        let is_missed = rule.is_no_data() && episode.open().is_some();
        let is_bound = is_missed && (device.is_bound || was_bound);
        let next = RuleState { version: rule.version, ids, worn_by, is_bound, episode, memory };
        let owes = [prior.is_some_and(|prior| prior.episode.owes()), next.episode.owes()];
        touched.owed.step((device_sn, rule.id), owes, answered.get().is_some(), now_ms);
        if prior.map_or(!next.is_default(), |prior| *prior != next) {
            touched.stepped.insert((rule.id, device_sn.clone()));
            let moved = prior.and_then(|prior| moved(prior, &next, (rule.id, device_sn)));
            touched.people.extend(moved);
            if next.is_default() {
                device.tracked.remove(&rule.id);
            } else {
                device.tracked.insert(rule.id, next);
            }
        }
        Ok(transition.map(|transition| Change {
            rule: Some(Arc::clone(rule)),
            rule_id: rule.id,
            rule_version: rule.version,
            device_sn: device_sn.clone(),
            ids,
            transition,
            verdict,
            at,
            silence: device.silence(at.ms),
        }))
    }
}

/// Returns the key of an open episode that concerns other people than before, and these people.
fn moved(
    prior: &RuleState,
    next: &RuleState,
    (rule_id, device_sn): (i64, &DeviceSn),
) -> Option<(EpisodeKey, Ids)> {
    let (_, open) = prior.episode.open().zip(next.episode.open())?;
    let key = || EpisodeKey::new(rule_id, next.version, device_sn, open.opened_at);
    (prior.ids != next.ids).then(|| (key(), next.ids))
}

/// Returns the rule's verdict on the `fresh` vitals of a reading, and the change that follows. The
/// error names the people to look up first; then nothing has changed.
pub(super) fn step(
    step: &RuleStep<'_>,
    device: &mut Device,
    fresh: VitalSet,
    reading: &Reading,
    touched: &mut TouchedStates,
) -> Result<(Verdict, Option<Change>), Ids> {
    let rule = step.rule;
    let (now, memory) = match device.tracked.get(&rule.id) {
        None => Default::default(),
        Some(prior) if prior.version == rule.version => {
            (prior.episode.clone(), prior.memory.clone())
        }
        // A device that changes its tenant may bring state of an older version. The state has no
        // open episode, because realigning closes it.
        Some(outdated) => (outdated.episode.clone().supersede().0, None),
    };
    let (before, verdict, memory) = evaluate(rule, now, memory, fresh, reading);
    Ok((verdict, step.make(device, touched, (before, memory), verdict, Episode::step)?))
}

/// Makes the first notification of an open episode whose rule was inhibited until this reading.
pub(super) fn step_down(
    step: &RuleStep<'_>,
    device: &mut Device,
    reading: &Reading,
    touched: &mut TouchedStates,
) -> Result<Option<Change>, Ids> {
    // Of two pressures, the one that holds the episode.
    let values = |range: &Range| {
        let values: Vec<_> = range.vital.values(reading.vitals()).collect();
        let holds = |(_, value): &&(Vital, f64)| range.clear.broken_by(*value).is_some();
        values.iter().find(holds).or(values.first()).copied()
    };
    let state = device.tracked.get(&step.rule.id);
    let (Some((vital, value)), Some(state)) = (step.rule.range().and_then(values), state) else {
        return Ok(None);
    };
    let state = (state.episode.clone(), state.memory.clone());
    let verdict = Verdict::Between(Measurement { vital, value });
    step.make(device, touched, state, verdict, Episode::step_down)
}

/// Whether the rule has evaluated a later second of the device than `at`. One of several vitals may
/// be newer than before in a second that another vital has passed.
pub(super) fn is_past(rule: &Rule, at: i64, seen: &VitalTimes) -> bool {
    // A newer value of the only vital of a range is always the latest.
    let Trigger::Conditions(composite) = &rule.trigger else { return false };
    composite.watched_vitals().any(|vital| seen.last(vital) > Some(at))
}
