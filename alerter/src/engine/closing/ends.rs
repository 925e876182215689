//! Ends single episodes, without the partition of their device.
//!
//! Pure.

use ljwx_reading::{DeviceSn, Ids};

use crate::engine::device::{Device, RuleState, Silence, tenant};
use crate::engine::episode::Episode;
use crate::engine::outcome::{Change, EventTime};
use crate::engine::owed::index::TouchedStates;
use crate::rules::index::RuleSet;
use crate::rules::{Measurement, Verdict, Vital};

/// Makes the states of a device quiet that do not concern its new ids. If another person wears the
/// device, all of them start over, and who was notified of an episode is notified of its end. An
/// unknown person is no other person. If only the tenant is another one, the episodes of rules that
/// the new tenant does not have close like those of a changed rule.
pub(in crate::engine) fn leave_wearer(
    device: &mut Device,
    sn: &DeviceSn,
    ids: Ids,
    rules: &RuleSet,
    at: EventTime,
    touched: &mut TouchedStates,
) -> Vec<Change> {
    let is_other = |known: i64| ids.user_id.is_some_and(|user_id| user_id != known);
    let tracked = std::mem::take(&mut device.tracked);
    let known = |state: &RuleState| state.worn_by.or(state.ids.user_id);
    if tracked.values().filter_map(known).any(is_other) {
        let closed = tracked.into_iter();
        return closed.filter_map(|one| close((sn, one), rules, at, true, touched)).collect();
    }
    let mut changes = Vec::new();
    for (id, mut state) in tracked {
        if ids.customer_id.is_some() && rules.in_force(tenant(ids), id).is_none() {
            changes.extend(supersede((sn, id), &mut state, rules, None, at, touched));
        }
        if !state.is_default() {
            device.tracked.insert(id, state);
        }
    }
    changes
}

/// Closes an episode for good and drops its state. `notify`: whoever was notified of it is notified
/// of its end.
pub(super) fn close(
    (sn, (id, state)): (&DeviceSn, (i64, RuleState)),
    rules: &RuleSet,
    at: EventTime,
    notify: bool,
    touched: &mut TouchedStates,
) -> Option<Change> {
    let RuleState { version, ids, episode, .. } = state;
    touched.stepped.insert((id, sn.clone()));
    touched.owed.step((sn, id), [episode.owes(), false], false, at.ms);
    let transition = episode.close(notify)?;
    let rule = rules.in_force(tenant(ids), id);
    let vital = rule.and_then(|rule| rule.watched_vitals().iter().next()).unwrap_or(Vital::NoData);
    Some(Change {
        rule: rule.cloned(),
        rule_id: id,
        rule_version: version,
        device_sn: sn.clone(),
        ids,
        transition,
        // No reading caused the end.
        verdict: Verdict::Between(Measurement { vital, value: 0.0 }),
        at,
        silence: Silence::default(),
    })
}

/// Makes the state of a rule on a device quiet, because the rule has another `version` now, or none
/// that concerns the device.
pub(in crate::engine) fn supersede(
    (sn, id): (&DeviceSn, i64),
    state: &mut RuleState,
    rules: &RuleSet,
    version: Option<i64>,
    now: EventTime,
    touched: &mut TouchedStates,
) -> Option<Change> {
    let before = std::mem::take(&mut state.episode);
    let (after, transition) = before.clone().supersede();
    let remembered = state.memory.take().is_some();
    let changed = after != before || version.is_some() || remembered;
    // The cooldown of a removed rule would stay for ever.
    state.episode = if rules.knows(id) { after } else { Episode::default() };
    if changed || state.is_default() {
        touched.stepped.insert((id, sn.clone()));
    }
    touched.owed.step((sn, id), [before.owes(), false], false, now.ms);
    let outdated = state.version;
    state.version = version.unwrap_or(outdated);
    Some(Change {
        rule: None,
        rule_id: id,
        rule_version: outdated,
        device_sn: sn.clone(),
        ids: state.ids,
        transition: transition?,
        verdict: Verdict::Absent,
        at: now,
        silence: Silence::default(),
    })
}
