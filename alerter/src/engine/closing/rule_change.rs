//! Brings a partition's state in line with the active rules.
//!
//! Pure. [`crate::rules::loading`] decides which rules are active.

use jiff::tz::TimeZone;

use crate::engine::closing::ends::supersede;
use crate::engine::device::tenant;
use crate::engine::outcome::{Change, moment};
use crate::engine::partition::Partition;
use crate::rules::index::RuleSet;

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
