//! Brings a partition's state in line with the active rules.
//!
//! Pure. [`crate::rules::loading`] decides which rules are active.

use jiff::tz::TimeZone;

use crate::engine::episode::Episode;
use crate::engine::no_data::episodes::tenant;
use crate::engine::outcome::{Change, moment};
use crate::engine::partition::Partition;
use crate::rules::index::RuleSet;
use crate::rules::verdict::Verdict;

impl Partition {
    /// State of another rule version becomes quiet, and so does state of a rule that no longer
    /// concerns the device. The active rules restart the checks for missing data.
    pub(super) fn realign(&mut self, rules: &RuleSet, zone: &TimeZone) -> Vec<Change> {
        let mut changes = Vec::new();
        let now = moment(zone, self.clock.clock_ms());
        for (sn, device) in &mut self.devices {
            for (id, tracked) in &mut device.tracked {
                let rule = rules.in_force(tenant(tracked.ids), *id);
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
                self.touched.owed.step((sn, *id), [before.owes(), false], false, now.ms);
                changes.extend(transition.map(|transition| Change {
                    rule: None,
                    rule_id: *id,
                    rule_version: tracked.version,
                    device_sn: sn.clone(),
                    ids: tracked.ids,
                    transition,
                    verdict: Verdict::Absent,
                    at: now,
                }));
                tracked.version = rule.map_or(tracked.version, |rule| rule.version);
            }
            device.tracked.retain(|_, tracked| !tracked.is_default());
        }
        self.schedule_all(rules);
        changes
    }
}
