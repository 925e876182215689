//! What two sets of rules make of the same readings, counted by rule and compared by device.
//!
//! Pure. Rules are paired by their number. Episodes of one rule on one device that overlap, of either
//! set, are looked at together once all of them are over, so that memory holds what is open and what is
//! listed, however long the time is that is gone through.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use ljwx_reading::DeviceSn;

use crate::engine::episode::To;
use crate::rules::severity::Severity;

/// Differences that are listed; more are only counted.
pub const LISTED_MAX: usize = 10_000;

/// Devices that are told apart, over both sets and all rules, 8 bytes each.
const DEVICES_MAX: usize = 5_000_000;

/// The two sets: the one in force, and the one that is tried.
pub const SIDES: [usize; 2] = [0, 1];

/// A transition under one of the sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Note {
    /// The rule.
    pub rule_id: i64,
    /// What happened.
    pub to: To,
    /// Severity after it.
    pub severity: Severity,
    /// Event time in milliseconds.
    pub at: i64,
    /// Whether people would have been told.
    pub told: bool,
}

/// What one rule came to under one set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Episodes that opened.
    pub episodes: u64,
    /// Devices they opened on.
    pub devices: u64,
    /// Notifications.
    pub told: u64,
}

/// Overlapping episodes of one rule on one device under one set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Course {
    /// How many.
    pub episodes: u32,
    /// When the first one opened.
    pub opened_at: i64,
    /// When the last one ended; `None`: it is open still.
    pub ended_at: Option<i64>,
    /// The highest severity.
    pub severity: Severity,
    /// Notifications.
    pub told: u32,
    /// Stands for every transition in its order.
    hash: u64,
}

/// A device that a rule treats otherwise under the other set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The device.
    pub device_sn: DeviceSn,
    /// The rule.
    pub rule_id: i64,
    /// What each set makes of it; at least one does.
    pub courses: [Option<Course>; 2],
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Rules with an episode under either set.
    pub rules: BTreeMap<i64, [Count; 2]>,
    /// Whether there were more devices than could be told apart: their counts are too low then.
    pub too_many_devices: bool,
    /// Episodes that overlap none of the other set, by set.
    pub only: [u64; 2],
    /// Episodes under both, with other times, severities or notifications.
    pub other: u64,
    /// The first of all of these, by device and rule.
    pub listed: Vec<Difference>,
}

impl Findings {
    /// Differences that are counted only.
    pub fn unlisted(&self) -> u64 {
        self.only[0] + self.only[1] + self.other - self.listed.len() as u64
    }
}

/// A comparison under way.
#[derive(Debug, Default)]
pub struct Comparison {
    findings: Findings,
    /// Courses with an episode that is open under either set.
    open: HashMap<(i64, DeviceSn), [Option<Course>; 2]>,
    devices: HashSet<u64>,
}

impl Comparison {
    /// Takes in what one reading of a device led to under each set.
    pub fn reading(&mut self, device_sn: &DeviceSn, notes: [&[Note]; 2]) {
        let mut touched = BTreeSet::new();
        for side in SIDES {
            for note in notes[side] {
                self.note(device_sn, side, note);
                touched.insert(note.rule_id);
            }
        }
        // Not before both have been heard: what ends under one may begin under the other.
        for rule_id in touched {
            let key = (rule_id, device_sn.clone());
            let is_open = |courses: &[Option<Course>; 2]| {
                courses.iter().flatten().any(|course| course.ended_at.is_none())
            };
            if !self.open.get(&key).is_some_and(is_open)
                && let Some(courses) = self.open.remove(&key)
            {
                self.settle(key, courses);
            }
        }
    }

    fn note(&mut self, device_sn: &DeviceSn, side: usize, note: &Note) {
        let count = &mut self.findings.rules.entry(note.rule_id).or_default()[side];
        count.told += u64::from(note.told);
        if note.to == To::Opened {
            count.episodes += 1;
            let device = hash(&(side, note.rule_id, device_sn));
            if self.devices.len() < DEVICES_MAX {
                count.devices += u64::from(self.devices.insert(device));
            } else if !self.devices.contains(&device) {
                self.findings.too_many_devices = true;
            }
        }
        let courses = self.open.entry((note.rule_id, device_sn.clone())).or_default();
        courses[side].get_or_insert_with(|| Course::new(note)).go_on(note);
    }

    fn settle(&mut self, (rule_id, device_sn): (i64, DeviceSn), courses: [Option<Course>; 2]) {
        let findings = &mut self.findings;
        match courses {
            [Some(one), Some(other)] if one == other => return,
            [Some(_), Some(_)] => findings.other += 1,
            [Some(_), None] => findings.only[0] += 1,
            [None, _] => findings.only[1] += 1,
        }
        if findings.listed.len() < LISTED_MAX {
            findings.listed.push(Difference { device_sn, rule_id, courses });
        }
    }

    /// What was found; what is open still counts as it stands.
    pub fn finish(mut self) -> Findings {
        let open: BTreeMap<_, _> = std::mem::take(&mut self.open).into_iter().collect();
        for (key, courses) in open {
            self.settle(key, courses);
        }
        let opened_at = |difference: &Difference| {
            difference.courses.iter().flatten().map(|course| course.opened_at).min()
        };
        self.findings.listed.sort_by(|one, other| {
            let place = |difference: &Difference| (difference.rule_id, opened_at(difference));
            one.device_sn.cmp(&other.device_sn).then_with(|| place(one).cmp(&place(other)))
        });
        self.findings
    }
}

impl Course {
    fn new(note: &Note) -> Self {
        let Note { at, severity, .. } = *note;
        Self { episodes: 0, opened_at: at, ended_at: None, severity, told: 0, hash: 0 }
    }

    fn go_on(&mut self, note: &Note) {
        match note.to {
            To::Opened => {
                self.episodes += 1;
                self.ended_at = None;
            }
            To::Notified | To::Escalated => {}
            To::Resolved | To::Superseded | To::Stale => self.ended_at = Some(note.at),
        }
        self.severity = self.severity.max(note.severity);
        self.told += u32::from(note.told);
        self.hash = hash(&(self.hash, note));
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
