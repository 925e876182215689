//! Rules against readings: which episodes begin, go on and end, partition by partition.
//!
//! Pure: holds the state of every device of the owned partitions in memory, performs no I/O, knows
//! no clock. [`crate::pipeline`] feeds it and writes down what changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use common::reading::{DeviceSn, Ids, Reading};
use serde::{Deserialize, Serialize};

use crate::episode::{Episode, To, Transition};
use crate::rule::{Rule, Verdict};
use crate::rules::{RuleSet, TEMPLATE_TENANT};
use crate::severity::Severity;
use crate::sight::{Memory, see};
use crate::sign::{Seen, Signs};

/// Where one rule stands on one device, as it is kept between readings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tracked {
    /// Version of the rule that this state belongs to; kept in a column of its own.
    #[serde(skip)]
    pub version: i64,
    /// Whose reading last moved it: an episode's later notices go to the people of its opening.
    #[serde(default)]
    pub ids: Ids,
    /// The course so far.
    pub episode: Episode,
    /// What the rule remembers beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

impl Tracked {
    fn is_blank(&self) -> bool {
        self.episode.is_blank() && self.memory.is_none()
    }
}

/// What is known of one device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Device {
    /// When each sign was last reported.
    pub seen: Seen,
    /// By rule; a rule with nothing to remember has no entry.
    pub tracked: BTreeMap<i64, Tracked>,
}

/// What became of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its news were judged.
    Judged,
    /// It brought no news: every sign it carries was seen as late or later.
    Late,
    /// The device's clock runs ahead; it was not judged.
    Ahead,
}

impl Outcome {
    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Judged => "judged",
            Self::Late => "late",
            Self::Ahead => "ahead",
        }
    }
}

/// A transition and what caused it.
#[derive(Debug, Clone)]
pub struct Change {
    /// The rule, as it was when it caused the transition; unknown where the change is its removal.
    pub rule: Option<Arc<Rule>>,
    /// Number and version that name the episode, with the device and the opening.
    pub rule_id: i64,
    /// See `rule_id`.
    pub rule_version: i64,
    /// The device.
    pub device_sn: DeviceSn,
    /// Whose episode it is.
    pub ids: Ids,
    /// What happened.
    pub transition: Transition,
    /// What was seen.
    pub verdict: Verdict,
    before: Episode,
}

/// What a reading led to.
#[derive(Debug)]
pub struct Judged {
    /// What became of it.
    pub outcome: Outcome,
    /// Rules it breached.
    pub breaches: u64,
    /// What changed, in the order of the rules.
    pub changes: Vec<Change>,
}

/// State to be written, in the order of the tables' keys.
#[derive(Debug, Default, PartialEq)]
pub struct StateChanges {
    /// Devices and what was seen of them.
    pub devices: Vec<(DeviceSn, Seen)>,
    /// Rules on devices; `None` where there is nothing left to remember.
    pub tracked: Vec<(i64, DeviceSn, Option<Tracked>)>,
}

#[derive(Debug, Default)]
struct Partition {
    devices: HashMap<DeviceSn, Device>,
    moved: BTreeSet<DeviceSn>,
    stepped: BTreeSet<(i64, DeviceSn)>,
}

/// The state of the owned partitions and the rules in force.
#[derive(Debug, Default)]
pub struct Engine {
    rules: Arc<RuleSet>,
    partitions: BTreeMap<i32, Partition>,
}

impl Engine {
    /// Takes a partition over with the state that was stored for it.
    pub fn load(&mut self, partition: i32, devices: HashMap<DeviceSn, Device>) {
        self.partitions.insert(partition, Partition { devices, ..Partition::default() });
    }

    /// Forgets a partition, and whatever of it was not written.
    pub fn forget(&mut self, partition: i32) {
        self.partitions.remove(&partition);
    }

    /// A partition's devices as a restart finds them: what a state writes, read back.
    #[cfg(test)]
    pub fn devices_as_stored(&self, partition: i32) -> HashMap<DeviceSn, Device> {
        let mut devices = self.partitions[&partition].devices.clone();
        for device in devices.values_mut() {
            device.seen = Seen::decode(&device.seen.encode());
            for tracked in device.tracked.values_mut() {
                let text = serde_json::to_string(tracked).expect("plain structs");
                let version = tracked.version;
                *tracked =
                    Tracked { version, ..serde_json::from_str(&text).expect("its own form") };
            }
        }
        devices
    }

    /// The partitions it has.
    pub fn partitions(&self) -> Vec<i32> {
        self.partitions.keys().copied().collect()
    }

    /// Judges by `rules` from now on; [`Self::realign`] brings a partition's state in line.
    pub fn set_rules(&mut self, rules: Arc<RuleSet>) {
        self.rules = rules;
    }

    /// Judges the news of one reading. A partition that was never loaded has no news.
    pub fn judge(&mut self, partition: i32, reading: &Reading) -> Judged {
        let mut judged = Judged { outcome: Outcome::Ahead, breaches: 0, changes: Vec::new() };
        let Some(partition) = self.partitions.get_mut(&partition) else { return judged };
        if reading.ahead_of_clock() {
            return judged;
        }
        let sn = reading.device_sn();
        let device = partition.devices.entry(sn.clone()).or_default();
        let carried = device.seen.note(reading);
        if carried.fresh.is_empty() {
            judged.outcome = if carried.all.is_empty() { Outcome::Judged } else { Outcome::Late };
            return judged;
        }
        judged.outcome = Outcome::Judged;
        partition.moved.insert(sn.clone());
        let customer_id = reading.ids().customer_id.unwrap_or(TEMPLATE_TENANT);
        for rule in self.rules.of(customer_id) {
            if !rule.concerns(carried.fresh) || rule.is_past(reading.epoch_ms(), &device.seen) {
                continue;
            }
            let (verdict, change) =
                step(device, rule, carried.fresh, reading, &mut partition.stepped);
            judged.breaches += u64::from(matches!(verdict, Verdict::Breach { .. }));
            judged.changes.extend(change);
        }
        judged
    }

    /// Takes back that `change` was told, because nobody could be.
    pub fn untold(&mut self, partition: i32, change: &Change) {
        let tracked = self
            .partitions
            .get_mut(&partition)
            .and_then(|partition| partition.devices.get_mut(&change.device_sn))
            .and_then(|device| device.tracked.get_mut(&change.rule_id));
        if let Some(tracked) = tracked {
            let episode = std::mem::take(&mut tracked.episode);
            tracked.episode = episode.untold(&change.before, change.transition.to);
        }
    }

    /// Brings a partition in line with the rules in force: state of another version, or of a rule
    /// that no longer concerns the device, starts over as quiet.
    pub fn realign(&mut self, partition: i32) -> Vec<Change> {
        let mut changes = Vec::new();
        let Some(partition) = self.partitions.get_mut(&partition) else { return changes };
        for (sn, device) in &mut partition.devices {
            for (id, tracked) in &mut device.tracked {
                let customer_id = tracked.ids.customer_id.unwrap_or(TEMPLATE_TENANT);
                let rule = self.rules.in_force(customer_id, *id);
                if rule.is_some_and(|rule| rule.version == tracked.version) {
                    continue;
                }
                let before = std::mem::take(&mut tracked.episode);
                let (after, transition) = before.clone().supersede();
                let remembered = tracked.memory.take().is_some();
                let changed = after != before || rule.is_some() || remembered;
                // The cooldown of a rule that is gone for good would stay for ever.
                tracked.episode = if self.rules.knows(*id) { after } else { Episode::default() };
                if changed || tracked.is_blank() {
                    partition.stepped.insert((*id, sn.clone()));
                }
                changes.extend(
                    transition.map(|transition| superseded(*id, sn, tracked, transition, before)),
                );
                tracked.version = rule.map_or(tracked.version, |rule| rule.version);
            }
            device.tracked.retain(|_, tracked| !tracked.is_blank());
        }
        changes
    }

    /// What changed in a partition since it was last asked.
    pub fn take_changes(&mut self, partition: i32) -> StateChanges {
        let Some(partition) = self.partitions.get_mut(&partition) else {
            return StateChanges::default();
        };
        let devices = &partition.devices;
        let moved = std::mem::take(&mut partition.moved).into_iter();
        let stepped = std::mem::take(&mut partition.stepped).into_iter();
        StateChanges {
            devices: moved
                .filter_map(|sn| devices.get(&sn).map(|device| (sn.clone(), device.seen.clone())))
                .collect(),
            tracked: stepped
                .map(|(id, sn)| {
                    let tracked = devices.get(&sn).and_then(|device| device.tracked.get(&id));
                    let tracked = tracked.cloned();
                    (id, sn, tracked)
                })
                .collect(),
        }
    }

    /// Open episodes by severity, over all partitions.
    pub fn open_episodes(&self) -> BTreeMap<Severity, u64> {
        let mut open: BTreeMap<_, _> = Severity::ALL.map(|severity| (severity, 0)).into();
        let devices = self.partitions.values().flat_map(|partition| partition.devices.values());
        for tracked in devices.flat_map(|device| device.tracked.values()) {
            if let Some(episode) = tracked.episode.open() {
                *open.entry(episode.severity).or_default() += 1;
            }
        }
        open
    }
}

/// One rule's step on one device.
fn step(
    device: &mut Device,
    rule: &Arc<Rule>,
    fresh: Signs,
    reading: &Reading,
    stepped: &mut BTreeSet<(i64, DeviceSn)>,
) -> (Verdict, Option<Change>) {
    let prior = device.tracked.remove(&rule.id);
    let prior = prior.unwrap_or_else(|| Tracked { version: rule.version, ..Tracked::default() });
    // A device that changes its tenant may bring state of an older version; an open episode cannot
    // be among it, because realigning closes those.
    let outdated = prior.version != rule.version;
    let (now, memory) = if outdated {
        (prior.episode.clone().supersede().0, None)
    } else {
        (prior.episode.clone(), prior.memory.clone())
    };
    let ids = if now.open().is_none() { reading.ids() } else { prior.ids };
    let (before, verdict, mut memory) = see(rule, now, memory, fresh, reading);
    let (after, transition) = before.clone().step(&rule.policy, &verdict, reading.epoch_ms());
    if transition.is_some()
        && let Some(memory) = &mut memory
    {
        memory.settle();
    }
    let memory = memory.filter(|memory| !memory.is_blank());
    let next = Tracked { version: rule.version, ids, episode: after, memory };
    if next.episode != prior.episode || next.memory != prior.memory || outdated {
        stepped.insert((rule.id, reading.device_sn().clone()));
    }
    if !next.is_blank() {
        device.tracked.insert(rule.id, next);
    }
    let change = transition.map(|transition| Change {
        rule: Some(Arc::clone(rule)),
        rule_id: rule.id,
        rule_version: rule.version,
        device_sn: reading.device_sn().clone(),
        ids,
        transition,
        verdict,
        before,
    });
    (verdict, change)
}

fn superseded(
    rule_id: i64,
    sn: &DeviceSn,
    tracked: &Tracked,
    transition: Transition,
    before: Episode,
) -> Change {
    debug_assert_eq!(transition.to, To::Superseded);
    Change {
        rule: None,
        rule_id,
        rule_version: tracked.version,
        device_sn: sn.clone(),
        ids: tracked.ids,
        transition,
        verdict: Verdict::Absent,
        before,
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
