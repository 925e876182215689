//! Brings a partition's state in line with the active rules.
//!
//! Pure. [`crate::rules::loading`] decides which rules are active.

use jiff::tz::TimeZone;
use ljwx_reading::DeviceSn;

use crate::engine::device::RuleState;
use crate::engine::episode::{Episode, Transition, TransitionKind};
use crate::engine::outcome::{Change, EventTime, moment};
use crate::engine::partition::Partition;
use crate::rules::index::RuleSet;
use crate::rules::rule::TEMPLATE_TENANT;
use crate::rules::verdict::Verdict;

impl Partition {
    /// State of another rule version becomes quiet, and so does state of a rule that no longer
    /// concerns the device. The active rules restart the checks for missing data.
    pub(super) fn realign(&mut self, rules: &RuleSet, zone: &TimeZone) -> Vec<Change> {
        let mut changes = Vec::new();
        let now = moment(zone, self.clock.clock_ms());
        for (sn, device) in &mut self.devices {
            for (id, tracked) in &mut device.tracked {
                let tenant = tracked.ids.customer_id.unwrap_or(TEMPLATE_TENANT);
                let rule = rules.in_force(tenant, *id);
                if rule.is_some_and(|rule| rule.version == tracked.version) {
                    continue;
                }
                let before = std::mem::take(&mut tracked.episode);
                let (after, transition) = before.clone().supersede();
                let remembered = tracked.memory.take().is_some();
                let changed = after != before || rule.is_some() || remembered;
                // The cooldown of a removed rule would stay for ever.
                tracked.episode = if rules.knows(*id) { after } else { Episode::default() };
                if changed || tracked.is_default() {
                    self.touched.stepped.insert((*id, sn.clone()));
                }
                changes.extend(
                    transition.map(|transition| superseded((*id, sn), tracked, transition, now)),
                );
                tracked.version = rule.map_or(tracked.version, |rule| rule.version);
            }
            device.tracked.retain(|_, tracked| !tracked.is_default());
        }
        self.index_owed();
        self.schedule_all(rules);
        changes
    }
}

fn superseded(
    (rule_id, sn): (i64, &DeviceSn),
    tracked: &RuleState,
    transition: Transition,
    at: EventTime,
) -> Change {
    debug_assert_eq!(transition.to, TransitionKind::Superseded);
    Change {
        rule: None,
        rule_id,
        rule_version: tracked.version,
        device_sn: sn.clone(),
        ids: tracked.ids,
        transition,
        verdict: Verdict::Absent,
        at,
    }
}
