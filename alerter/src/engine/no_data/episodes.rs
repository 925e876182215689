//! Applies missing data to single episodes: rules of category `NO_DATA` open, episodes of other
//! rules close as stale.
//!
//! Pure. [`super::partition_clock`] and [`super::deadlines`] decide when data is missing.

use std::sync::Arc;

use ljwx_reading::{DeviceSn, Ids};

use crate::engine::device::{Device, RuleState};
use crate::engine::episode::StepContext;
use crate::engine::outcome::{Change, EventTime};
use crate::engine::owed_index::TouchedStates;
use crate::engine::routing::{DueNotification, Question, RoutingAt};
use crate::rules::index::RuleSet;
use crate::rules::rule::{Rule, TEMPLATE_TENANT, Trigger};
use crate::rules::verdict::{Measurement, Verdict};
use crate::rules::vital::Vital;

/// Time between checks of a silent device for which no episode may open at this time, or whose
/// episode is suppressed: one minute, in milliseconds.
const RECHECK_MS: i64 = 60_000;

/// Returns the `NO_DATA` rules whose episode on the device is open.
pub fn open_absences(device: &Device, rules: &RuleSet) -> Vec<Arc<Rule>> {
    let open = device.tracked.iter().filter(|(_, tracked)| tracked.episode.open().is_some());
    open.filter_map(|(id, tracked)| rules.in_force(tenant(tracked.ids), *id))
        .filter(|rule| matches!(rule.trigger, Trigger::NoData(_)))
        .cloned()
        .collect()
}

/// Evaluates a device that is silent for longer than the rule allows.
pub fn missed(
    (device, sn): (&mut Device, &DeviceSn),
    rule: &Arc<Rule>,
    window_ms: i64,
    at: EventTime,
    routing: RoutingAt<'_>,
    touched: &mut TouchedStates,
) -> Option<Change> {
    let may_open = rule.effective.holds(at.wall);
    if !may_open && !is_open(device, rule.id) {
        return None;
    }
    let verdict = silence(device, window_ms, at.ms, may_open);
    advance((device, sn), rule, verdict, at, routing, touched)
}

/// Returns the verdict on a device that is silent at `at`.
pub fn silence(device: &Device, window_ms: i64, at: i64, may_open: bool) -> Verdict {
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let measured = Measurement { vital: Vital::NoData, value: seconds(at - device.last_seen.at) };
    Verdict::Breach { measured, bound: seconds(window_ms), may_open }
}

/// Returns when a silent device must be checked again.
pub fn next_look(device: &Device, rule: &Rule, now: i64) -> i64 {
    let tracked = device.tracked.get(&rule.id);
    match tracked.filter(|tracked| tracked.episode.open().is_some()) {
        // Open, and no notification is due: no check before the device is seen again.
        Some(tracked) => match tracked.episode.next_due(&rule.policy) {
            None => i64::MAX,
            Some(next) if next <= now => now + RECHECK_MS,
            Some(next) => next,
        },
        None => now + RECHECK_MS,
    }
}

/// Advances a `NO_DATA` rule by one verdict.
pub fn advance(
    (device, sn): (&mut Device, &DeviceSn),
    rule: &Arc<Rule>,
    verdict: Verdict,
    at: EventTime,
    routing: RoutingAt<'_>,
    touched: &mut TouchedStates,
) -> Option<Change> {
    let prior = device.tracked.remove(&rule.id).unwrap_or_default();
    let open = prior.episode.open().is_some();
    let ids = if open { prior.ids } else { device.last_seen.ids };
    let question = Question::new(routing, DueNotification { ids, device_sn: sn, rule });
    let context = StepContext {
        policy: &rule.policy,
        at: at.ms,
        // Missing data has no age: the silence lasts until now.
        late: false,
        route: &|| question.route(),
    };
    let owed = prior.episode.owes();
    let (episode, transition) = prior.episode.step(&context, &verdict);
    let owes = [owed, episode.owes()];
    touched.owed.step((sn, rule.id), owes, question.was_asked(), routing.now_ms);
    let tracked = RuleState { version: rule.version, ids, episode, memory: None };
    if !tracked.episode.is_default() {
        device.tracked.insert(rule.id, tracked);
    }
    touched.stepped.insert((rule.id, sn.clone()));
    Some(Change::of(rule, (sn, ids), transition?, verdict, at))
}

/// Closes an open episode whose device has fallen silent.
pub fn stale(
    (device, sn): (&mut Device, &DeviceSn),
    rule: &Arc<Rule>,
    at: EventTime,
    touched: &mut TouchedStates,
) -> Option<Change> {
    let tracked = device.tracked.get_mut(&rule.id)?;
    let owed = tracked.episode.owes();
    let (after, transition) = std::mem::take(&mut tracked.episode).close_stale();
    tracked.episode = after;
    let transition = transition?;
    touched.owed.step((sn, rule.id), [owed, false], false, at.ms);
    // The rule starts over with the device's next reading.
    tracked.memory = None;
    let ids = tracked.ids;
    if tracked.episode.is_default() {
        device.tracked.remove(&rule.id);
    }
    touched.stepped.insert((rule.id, sn.clone()));
    let value = (at.ms - device.last_seen.at) as f64 / 1000.0;
    let verdict = Verdict::Between(Measurement { vital: Vital::NoData, value });
    Some(Change::of(rule, (sn, ids), transition, verdict, at))
}

/// Returns the ids that a rule concerns on a device: those of the open episode, else the device's.
pub fn concerned(device: &Device, rule_id: i64) -> Ids {
    let open = device.tracked.get(&rule_id).filter(|tracked| tracked.episode.open().is_some());
    open.map_or(device.last_seen.ids, |tracked| tracked.ids)
}

fn is_open(device: &Device, rule_id: i64) -> bool {
    device.tracked.get(&rule_id).is_some_and(|tracked| tracked.episode.open().is_some())
}

/// Returns the tenant whose rules concern a device with these ids.
pub fn tenant(ids: Ids) -> i64 {
    ids.customer_id.unwrap_or(TEMPLATE_TENANT)
}
