//! Brings a partition in line with the active rules. States of rules that changed become quiet, and
//! the checks for missing data restart.
//!
//! Pure.

use std::iter;

use jiff::tz::TimeZone;

use crate::engine::closing::ends::supersede;
use crate::engine::device::tenant;
use crate::engine::no_data::deadlines::{Deadlines, schedule_check};
use crate::engine::no_data::episodes::next_look;
use crate::engine::no_data::partition_clock::OUT_OF_SERVICE_MS;
use crate::engine::outcome::{Change, moment};
use crate::engine::partition::Partition;
use crate::rules::index::RuleSet;

impl Partition {
    /// State of another rule version becomes quiet, and so does state of a rule that no longer
    /// concerns the device. The active rules restart the checks for missing data.
    pub(super) fn realign(&mut self, rules: &RuleSet, zone: &TimeZone) -> Vec<Change> {
        let mut changes = Vec::new();
        let (now, touched) = (moment(zone, self.clock.clock_ms()), &mut self.touched);
        for (sn, device) in &mut self.devices {
            for (id, state) in &mut device.tracked {
                let rule = rules.in_force(tenant(state.ids), *id);
                let version = rule.map(|rule| rule.version);
                if version != Some(state.version) {
                    changes.extend(supersede((sn, *id), state, rules, version, now, touched));
                }
            }
            device.tracked.retain(|_, tracked| !tracked.is_default());
        }
        self.schedule_all(rules);
        changes
    }

    /// Schedules the checks of all devices by the active rules. A new window counts from now.
    pub(super) fn schedule_all(&mut self, rules: &RuleSet) {
        let armed = self.clock.arm(rules.absence_windows());
        self.clock_changed |= armed;
        self.windows_moved |= armed;
        self.deadlines = Deadlines::default();
        if !self.clock.counts() {
            return;
        }
        for (sn, device) in &self.devices {
            let silent = rules.of(tenant(device.last_seen.ids)).on_absence();
            // A device out of service is not missed by a rule that a tenant has inherited since.
            let gone_ms = self.clock.clock_ms() - device.last_seen.at - OUT_OF_SERVICE_MS;
            let silent = silent.filter(|rule| rule.no_data_window() >= Some(gone_ms));
            schedule_check(&mut self.deadlines, &self.clock, silent, sn, device);
            for (id, tracked) in &device.tracked {
                let rule = rules.in_force(tenant(tracked.ids), *id);
                let Some(rule) = rule.filter(|_| tracked.episode.open().is_some()) else {
                    continue;
                };
                if rule.is_no_data() {
                    // What fell due before has been checked: a check of then would be dated then.
                    let next = next_look(device, rule, self.clock.clock_ms());
                    self.deadlines.schedule(sn, *id, next);
                } else {
                    let stale = iter::once(rule);
                    schedule_check(&mut self.deadlines, &self.clock, stale, sn, device);
                }
            }
        }
    }
}
