//! Brings a partition's state in line with the active rules.
//!
//! Pure. [`crate::rules::loading`] decides which rules are active.

use jiff::tz::TimeZone;
use ljwx_reading::DeviceSn;

use crate::engine::device::{RuleState, Silence};
use crate::engine::episode::Episode;
use crate::engine::no_data::episodes::tenant;
use crate::engine::outcome::{Change, EventTime, moment};
use crate::engine::owed::index::TouchedStates;
use crate::engine::partition::Partition;
use crate::rules::index::RuleSet;
use crate::rules::verdict::Verdict;

impl Partition {
    /// State of another rule version becomes quiet, and so does state of a rule that no longer
    /// concerns the device. The active rules restart the checks for missing data.
    pub(in crate::engine) fn realign(&mut self, rules: &RuleSet, zone: &TimeZone) -> Vec<Change> {
        let mut changes = Vec::new();
        let now = moment(zone, self.clock.clock_ms());
        for (sn, device) in &mut self.devices {
            for (id, state) in &mut device.tracked {
                let rule = rules.in_force(tenant(state.ids), *id);
                if rule.is_none_or(|rule| rule.version != state.version) {
                    changes.extend(supersede(
                        (sn, *id),
                        state,
                        rules,
                        rule.map(|rule| rule.version),
                        now,
                        &mut self.touched,
                    ));
                }
            }
            device.tracked.retain(|_, tracked| !tracked.is_default());
        }
        self.schedule_all(rules);
        changes
    }
}

/// Makes the state of a rule on a device quiet, because the rule has another `version` now, or none
/// that concerns the device.
pub(super) fn supersede(
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
