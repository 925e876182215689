//! Compares the results of two sets of rules on the same readings: counts by rule, and differences
//! by device.
//!
//! Pure. Rules are paired by their id. Overlapping episodes of one rule on one device, of either
//! set, form a group. The group is compared once all of its episodes are over. So memory holds only
//! open groups and listed differences, however long the period is.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

use ljwx_reading::DeviceSn;
use serde::Serialize;

use crate::engine::episode::TransitionKind;
use crate::rules::Severity;

/// Most differences that are listed. Further ones are only counted.
pub const LISTED_MAX: usize = 10_000;

/// Most devices that are distinguished, over both sets and all rules, 8 bytes each.
const DEVICES_MAX: usize = 5_000_000;

/// A transition under one of the sets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TransitionNote {
    /// The rule.
    pub rule_id: i64,
    /// The kind of transition.
    pub to: TransitionKind,
    /// Severity after the transition.
    pub severity: Severity,
    /// Event time, on the devices' wall clock.
    pub at: String,
    /// Whether the transition would have been notified.
    pub notified: bool,
}

/// The totals of one rule under one set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RuleTotals {
    /// Episodes that opened.
    pub episodes: u64,
    /// Devices on which episodes opened.
    pub devices: u64,
    /// Notifications, each counted once whatever the number of recipients.
    pub notifications: u64,
}

/// Overlapping episodes of one rule on one device under one set. Times are on the devices' wall
/// clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EpisodeGroup {
    /// Number of episodes. Several if they overlap one episode of the other set.
    pub episodes: u32,
    /// Opening of the first episode.
    pub opened_at: String,
    /// End of the last episode. `None`: the episode is still open.
    pub ended_at: Option<String>,
    /// The highest severity.
    pub severity: Severity,
    /// Notifications, each counted once whatever the number of recipients.
    pub notifications: u32,
    /// Hash of every transition, in order.
    #[serde(skip)]
    hash: u64,
}

/// A device on which the two sets give different results for a rule. At least one set has episodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The device.
    pub device_sn: DeviceSn,
    /// The rule.
    pub rule_id: i64,
    /// The episodes under set a.
    pub a: Option<EpisodeGroup>,
    /// The episodes under set b.
    pub b: Option<EpisodeGroup>,
}

/// Differences between the sets.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// Groups of set a that overlap no episode of set b.
    pub only_a: u64,
    /// Groups of set b that overlap no episode of set a.
    pub only_b: u64,
    /// Groups under both sets, with different times, severities or notifications.
    pub otherwise: u64,
    /// The first of these differences, by device and rule.
    pub listed: Vec<Difference>,
    /// Number of differences that are only counted.
    pub unlisted: u64,
}

/// A comparison under way, or its result.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Rules with an episode under either set.
    pub rules: BTreeMap<i64, [RuleTotals; 2]>,
    /// Whether there were more than `DEVICES_MAX` devices. The counts of devices are too low
    /// then.
    pub too_many_devices: bool,
    /// Differences between the sets.
    pub differences: Differences,
    /// Groups with an episode that is open under either set.
    open: HashMap<(i64, DeviceSn), [Option<EpisodeGroup>; 2]>,
    devices: HashSet<u64>,
}

impl Comparison {
    /// Adds the results of one reading of a device under each set: the active rules, and the rules
    /// that are tried.
    pub fn reading(&mut self, device_sn: &DeviceSn, notes: [&[TransitionNote]; 2]) {
        let mut touched = BTreeSet::new();
        for (side, notes) in notes.into_iter().enumerate() {
            for note in notes {
                self.note(device_sn, side, note);
                touched.insert(note.rule_id);
            }
        }
        // Only after both sets: an episode may end under one set and open under the other.
        for rule_id in touched {
            let key = (rule_id, device_sn.clone());
            let Some(groups) = self.open.remove(&key) else { continue };
            if groups.iter().flatten().any(|group| group.ended_at.is_none()) {
                self.open.insert(key, groups);
            } else {
                self.settle(key, groups);
            }
        }
    }

    fn note(&mut self, device_sn: &DeviceSn, side: usize, note: &TransitionNote) {
        let count = &mut self.rules.entry(note.rule_id).or_default()[side];
        count.notifications += u64::from(note.notified);
        if note.to == TransitionKind::Opened {
            count.episodes += 1;
            let device = hash(&(side, note.rule_id, device_sn));
            if self.devices.len() < DEVICES_MAX {
                count.devices += u64::from(self.devices.insert(device));
            } else if !self.devices.contains(&device) {
                self.too_many_devices = true;
            }
        }
        let groups = self.open.entry((note.rule_id, device_sn.clone())).or_default();
        groups[side].get_or_insert_with(|| EpisodeGroup::new(note)).go_on(note);
    }

    fn settle(&mut self, (rule_id, device_sn): (i64, DeviceSn), groups: [Option<EpisodeGroup>; 2]) {
        let [a, b] = groups;
        let differences = &mut self.differences;
        match (&a, &b) {
            (Some(one), Some(other)) if one == other => return,
            (Some(_), Some(_)) => differences.otherwise += 1,
            (Some(_), None) => differences.only_a += 1,
            (None, _) => differences.only_b += 1,
        }
        if differences.listed.len() < LISTED_MAX {
            differences.listed.push(Difference { device_sn, rule_id, a, b });
        } else {
            differences.unlisted += 1;
        }
    }

    /// Returns the result. Open groups are compared as they are.
    pub fn finish(mut self) -> Self {
        let open: BTreeMap<_, _> = std::mem::take(&mut self.open).into_iter().collect();
        for (key, groups) in open {
            self.settle(key, groups);
        }
        self.differences.listed.sort_by(|one, other| one.place().cmp(&other.place()));
        self
    }
}

impl Difference {
    /// Returns the device, the rule and the first opening.
    fn place(&self) -> (&DeviceSn, i64, Option<&String>) {
        let groups = [&self.a, &self.b].into_iter().flatten();
        (&self.device_sn, self.rule_id, groups.map(|group| &group.opened_at).min())
    }
}

impl EpisodeGroup {
    fn new(note: &TransitionNote) -> Self {
        let (opened_at, severity) = (note.at.clone(), note.severity);
        Self { episodes: 0, opened_at, ended_at: None, severity, notifications: 0, hash: 0 }
    }

    fn go_on(&mut self, note: &TransitionNote) {
        if note.to == TransitionKind::Opened {
            self.episodes += 1;
            self.ended_at = None;
        } else if note.to.is_end() {
            self.ended_at = Some(note.at.clone());
        }
        self.severity = self.severity.max(note.severity);
        self.notifications += u32::from(note.notified);
        self.hash = hash(&(self.hash, note));
    }
}

fn hash(value: &impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
