//! For each rule and device, the next time at which missing data must be checked.
//!
//! Pure. A check that falls due is computed again: a device that is seen meanwhile costs nothing
//! until then.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ljwx_reading::DeviceSn;

use crate::engine::device::Device;
use crate::engine::no_data::partition_clock::PartitionClock;
use crate::rules::Rule;

/// Checks in the order of their times; at most one check for each rule and device.
#[derive(Debug, Default)]
pub struct Deadlines {
    order: BTreeSet<Check>,
    times: HashMap<(DeviceSn, i64), i64>,
}

/// Time of a check in milliseconds, its device, and its rule.
pub type Check = (i64, DeviceSn, i64);

impl Deadlines {
    /// Schedules the rule's check of the device at `at`, and cancels the check before.
    pub fn schedule(&mut self, device_sn: &DeviceSn, rule_id: i64, at: i64) {
        let key = (device_sn.clone(), rule_id);
        if let Some(before) = self.times.insert(key, at) {
            self.order.remove(&(before, device_sn.clone(), rule_id));
        }
        self.order.insert((at, device_sn.clone(), rule_id));
    }

    /// Removes and returns the earliest check that is due by `until`.
    pub fn pop(&mut self, until: i64) -> Option<Check> {
        if self.first()? > until {
            return None;
        }
        let (at, device_sn, rule_id) = self.order.pop_first()?;
        self.times.remove(&(device_sn.clone(), rule_id));
        Some((at, device_sn, rule_id))
    }

    /// Returns the time of the earliest check.
    pub fn first(&self) -> Option<i64> {
        self.order.first().map(|(at, ..)| *at)
    }
}

/// Schedules the next check of each rule for which missing data matters.
pub fn schedule_check<'a>(
    deadlines: &mut Deadlines,
    clock: &PartitionClock,
    rules: impl Iterator<Item = &'a Arc<Rule>>,
    sn: &DeviceSn,
    device: &Device,
) {
    for rule in rules {
        if let Some(at) = clock.due(rule, device.seen_at(rule)) {
            deadlines.schedule(sn, rule.id, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dues_come_in_order_and_a_later_word_replaces_the_earlier() {
        let sn = |text| DeviceSn::new(text).unwrap();
        let mut list = Deadlines::default();
        list.schedule(&sn("A"), 1, 30);
        list.schedule(&sn("B"), 1, 20);
        list.schedule(&sn("A"), 2, 10);
        list.schedule(&sn("A"), 2, 25);
        assert_eq!(list.first(), Some(20));
        let mut order = Vec::new();
        while let Some((at, device_sn, rule_id)) = list.pop(29) {
            order.push((at, device_sn.as_str().to_owned(), rule_id));
        }
        assert_eq!(order, [(20, "B".to_owned(), 1), (25, "A".to_owned(), 2)]);
        assert_eq!(list.pop(30).map(|(at, ..)| at), Some(30));
        assert_eq!(list.first(), None);
    }
}
