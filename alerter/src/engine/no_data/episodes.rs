//! Applies missing data to single episodes: rules of category `NO_DATA` open, episodes of other
//! rules close as stale.
//!
//! Pure. [`super::partition_clock`] and [`super::deadlines`] decide when data is missing.

use std::collections::BTreeSet;
use std::sync::Arc;

use ljwx_reading::{DeviceSn, Ids};

use crate::engine::device::{Device, RuleState};
use crate::engine::outcome::{Change, EventTime};
use crate::rules::index::RuleSet;
use crate::rules::rule::{Rule, TEMPLATE_TENANT, Trigger};
use crate::rules::verdict::{Measurement, Verdict};
use crate::rules::vital::Vital;

/// Time between checks of an episode that may not open or notify at this time: one minute, in
/// milliseconds.
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
    stepped: &mut BTreeSet<(i64, DeviceSn)>,
) -> Option<Change> {
    let may_open = rule.effective.holds(at.wall);
    if !may_open && !is_open(device, rule.id) {
        return None;
    }
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let measured =
        Measurement { vital: Vital::NoData, value: seconds(at.ms - device.last_seen.at) };
    let verdict = Verdict::Breach { measured, bound: seconds(window_ms), may_open };
    advance((device, sn), rule, verdict, at, stepped)
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
    stepped: &mut BTreeSet<(i64, DeviceSn)>,
) -> Option<Change> {
    let prior = device.tracked.remove(&rule.id).unwrap_or_default();
    let open = prior.episode.open().is_some();
    let ids = if open { prior.ids } else { device.last_seen.ids };
    let before = prior.episode;
    let (episode, transition) = before.clone().step(&rule.policy, &verdict, at.ms);
    let tracked = RuleState { version: rule.version, ids, episode, memory: None };
    if !tracked.episode.is_default() {
        device.tracked.insert(rule.id, tracked);
    }
    stepped.insert((rule.id, sn.clone()));
    Some(Change {
        rule: Some(Arc::clone(rule)),
        rule_id: rule.id,
        rule_version: rule.version,
        device_sn: sn.clone(),
        ids,
        transition: transition?,
        verdict,
        at,
        before,
    })
}

/// Closes an open episode whose device has fallen silent.
pub fn stale(
    (device, sn): (&mut Device, &DeviceSn),
    rule: &Arc<Rule>,
    at: EventTime,
    stepped: &mut BTreeSet<(i64, DeviceSn)>,
) -> Option<Change> {
    let tracked = device.tracked.get_mut(&rule.id)?;
    let before = std::mem::take(&mut tracked.episode);
    let (after, transition) = before.clone().close_stale();
    tracked.episode = after;
    let transition = transition?;
    // The rule starts over with the device's next reading.
    tracked.memory = None;
    let ids = tracked.ids;
    if tracked.episode.is_default() {
        device.tracked.remove(&rule.id);
    }
    stepped.insert((rule.id, sn.clone()));
    let value = (at.ms - device.last_seen.at) as f64 / 1000.0;
    Some(Change {
        rule: Some(Arc::clone(rule)),
        rule_id: rule.id,
        rule_version: rule.version,
        device_sn: sn.clone(),
        ids,
        transition,
        verdict: Verdict::Between(Measurement { vital: Vital::NoData, value }),
        at,
        before,
    })
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
