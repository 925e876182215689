//! The partition's clock: the greatest Kafka record time seen. NO_DATA timers run on it.
//!
//! Pure. With record time a replay and a backlog count as the live run did. A period without any
//! record proves nothing about a single device, because the gateway may have been unreachable.
//! After that period the timers restart, unless the device whose record ends it is on time: then it
//! was the usual pause between the records of few devices.

use std::collections::{BTreeMap, BTreeSet};

use crate::rules::Rule;

/// Time without data after which a device is out of service: 7 days, in milliseconds. A rule
/// ignores a device that was out of service when the rule became active.
pub const OUT_OF_SERVICE_MS: i64 = 7 * 86_400_000;

/// A partition's clock, and the starts of the windows that run on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionClock {
    clock_ms: i64,
    /// By window, in milliseconds: the end of the last period without records that was longer than
    /// half of it. Rules with the same window share it.
    since: BTreeMap<i64, i64>,
}

impl PartitionClock {
    /// Returns the stored clock, with the start of each window, all in milliseconds.
    pub fn stored(clock_ms: i64, since: impl IntoIterator<Item = (i64, i64)>) -> Self {
        Self { clock_ms, since: since.into_iter().collect() }
    }

    /// Returns the greatest record time so far, in milliseconds; 0: no record yet.
    pub fn clock_ms(&self) -> i64 {
        self.clock_ms
    }

    /// Returns each window and its start, both in milliseconds.
    pub fn since(&self) -> impl Iterator<Item = (i64, i64)> {
        self.since.iter().map(|(window, since)| (*window, *since))
    }

    /// Whether any rule counts missing data here.
    pub fn counts(&self) -> bool {
        !self.since.is_empty()
    }

    /// Notes a record of time `at`, and returns whether a window restarts then. `is_late` tells
    /// whether the record's device usually sends sooner.
    pub fn saw_record(&mut self, at: i64, is_late: bool) -> bool {
        let gap = at - self.clock_ms;
        if gap <= 0 {
            return false;
        }
        self.clock_ms = at;
        let mut anew = false;
        for (window, since) in &mut self.since {
            // Half of the window: a device seen just before the gap must have time to be seen after
            // it.
            if is_late && gap > window / 2 {
                *since = at;
                anew = true;
            }
        }
        anew
    }

    /// Takes over the windows of the active rules. A new window counts from now. Returns whether
    /// anything changed.
    pub fn arm(&mut self, windows: &BTreeSet<i64>) -> bool {
        let since = |window: &i64| self.since.get(window).copied().unwrap_or(self.clock_ms);
        let armed: BTreeMap<i64, i64> =
            windows.iter().map(|window| (*window, since(window))).collect();
        let changed = armed != self.since;
        self.since = armed;
        changed
    }

    /// Lets all windows count from now.
    pub fn restart(&mut self) {
        let now = self.clock_ms;
        self.since.values_mut().for_each(|since| *since = now);
    }

    /// Returns when a device last seen at `seen_at` will have been silent for as long as the rule
    /// allows. Returns `None` if the rule does not count this device.
    pub fn due(&self, rule: &Rule, seen_at: i64) -> Option<i64> {
        let (window_ms, from_ms) = (rule.absence_window()?, rule.from_ms);
        let since = *self.since.get(&window_ms)?;
        let in_service = from_ms - seen_at <= OUT_OF_SERVICE_MS;
        in_service.then(|| seen_at.max(since).max(from_ms) + window_ms)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support;

    const WINDOW_MS: i64 = 100_000;

    /// A `NO_DATA` rule with this window, that became active at this time.
    fn absence(window_ms: i64, from_ms: i64) -> Rule {
        let fields = json!({
            "rule_category": "NO_DATA", "physical_sign": null, "threshold_max": null,
            "time_window_seconds": window_ms / 1000,
        });
        Rule { from_ms, ..test_support::rule(fields) }
    }

    /// Returns when a device that was seen last at this time is missed.
    fn missed(clock: &PartitionClock, seen_at: i64) -> Option<i64> {
        clock.due(&absence(WINDOW_MS, 1_000_000), seen_at)
    }

    fn clock(records: &[i64]) -> PartitionClock {
        let mut clock = PartitionClock::default();
        clock.saw_record(1_000_000, true);
        clock.arm(&BTreeSet::from([WINDOW_MS]));
        for second in records {
            clock.saw_record(1_000_000 + second * 1000, true);
        }
        clock
    }

    #[test]
    fn absence_counts_from_the_last_record_of_the_device_while_others_are_seen() {
        let clock = clock(&[10, 40, 80, 120]);
        assert_eq!(missed(&clock, 1_010_000), Some(1_110_000));
        let other = absence(200_000, 1_000_000);
        assert_eq!(clock.due(&other, 1_010_000), None, "no rule in force has this window");
    }

    #[test]
    fn a_stretch_in_which_nobody_was_seen_counts_for_nobody() {
        let silent = clock(&[10, 600]);
        assert_eq!(
            missed(&silent, 1_010_000),
            Some(1_700_000),
            "anew from the first record after it"
        );
        let half = clock(&[10, 60]);
        assert_eq!(missed(&half, 1_010_000), Some(1_110_000), "half the window is no such stretch");
        let mut gap = clock(&[10]);
        assert!(!gap.saw_record(1_060_000, true) && gap.saw_record(1_111_000, true), "it says so");
        let mut on_time = clock(&[10]);
        assert!(!on_time.saw_record(1_600_000, false));
        assert_eq!(missed(&on_time, 1_010_000), Some(1_110_000), "its device is on time");
        on_time.restart();
        assert_eq!(missed(&on_time, 1_010_000), Some(1_700_000));
    }

    #[test]
    fn a_version_counts_from_when_it_came_and_not_for_devices_out_of_service() {
        let clock = clock(&[10, 40, 80]);
        let edited = absence(WINDOW_MS, 1_080_000);
        assert_eq!(clock.due(&edited, 1_010_000), Some(1_180_000));
        assert_eq!(clock.due(&edited, 1_080_000 - OUT_OF_SERVICE_MS - 1), None);
    }

    #[test]
    fn a_window_counts_from_when_the_first_rule_had_it() {
        let mut clock = clock(&[10, 40, 80]);
        let both = BTreeSet::from([WINDOW_MS, 50_000]);
        assert!(clock.arm(&both) && !clock.arm(&both), "the same windows change nothing");
        let other = absence(50_000, 1_000_000);
        assert_eq!(clock.due(&other, 1_010_000), Some(1_130_000));
        assert_eq!(missed(&clock, 1_010_000), Some(1_110_000));
        assert!(clock.arm(&BTreeSet::new()) && !clock.counts());
    }

    #[test]
    fn a_record_from_before_moves_nothing() {
        let mut clock = clock(&[10, 40]);
        let before = clock.clone();
        assert!(!clock.saw_record(1_020_000, true));
        assert_eq!(clock, before);
    }
}
