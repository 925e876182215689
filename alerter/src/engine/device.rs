//! The state of one device between readings.
//!
//! Pure. `step` and [`crate::engine::no_data`] advance the state. [`crate::engine::journal`] and
//! `persisted_state` define how it is stored.

use std::collections::BTreeMap;
use std::fmt::Write;

use indexmap::IndexMap;
use ljwx_reading::{DeviceSn, Ids, Reading};
use serde::{Deserialize, Serialize};

use crate::engine::episode::Episode;
use crate::engine::episode::evaluate::EvaluationState;
use crate::rules::vital::{Vital, VitalSet};

/// The state of one rule on one device, as it is kept between readings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleState {
    /// Version of the rule that this state belongs to; stored in a column of its own.
    #[serde(skip)]
    pub version: i64,
    /// User, organisation and tenant. While an episode is open they do not change: its later
    /// notices go to the people of its opening.
    #[serde(default)]
    pub ids: Ids,
    /// The episode so far.
    pub episode: Episode,
    /// The state of the evaluation, beside the episode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<EvaluationState>,
}

impl RuleState {
    /// Whether dropping the state loses nothing.
    pub fn is_default(&self) -> bool {
        self.episode.is_default() && self.memory.is_none()
    }
}

/// When a device was last seen, with any reading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LastSeen {
    /// Kafka record time, in milliseconds; 0: not known.
    pub at: i64,
    /// User, organisation and tenant of the device then.
    pub ids: Ids,
}

/// The state of one device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Device {
    /// When each vital was last reported.
    pub seen: VitalTimes,
    /// When the device was last seen.
    pub last_seen: LastSeen,
    /// State by rule. A rule without state has no entry.
    pub tracked: BTreeMap<i64, RuleState>,
    /// Whether the device is already marked as to be written.
    pub(super) moved: bool,
}

impl Device {
    /// Returns the state of a rule whose episode on the device is open.
    pub(super) fn open(&self, rule_id: i64) -> Option<&RuleState> {
        self.tracked.get(&rule_id).filter(|tracked| tracked.episode.open().is_some())
    }

    /// Marks the device at this place, once, as to be written.
    pub(super) fn moves(&mut self, place: usize, moved: &mut Vec<usize>) {
        if !std::mem::replace(&mut self.moved, true) {
            moved.push(place);
        }
    }
}

/// Devices of a partition. Devices are never removed, so their places stay valid.
pub type Devices = IndexMap<DeviceSn, Device, ahash::RandomState>;

/// When a device last reported each vital, in milliseconds of event time.
///
/// Kept by device rather than by rule. Lateness must not depend on the rules that were active when
/// a reading arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VitalTimes([i64; Vital::ALL.len()]);

/// A time before any reading.
const NEVER: i64 = i64::MIN;

impl Default for VitalTimes {
    fn default() -> Self {
        Self([NEVER; Vital::ALL.len()])
    }
}

/// The vitals that a reading carries, and the ones among them that are newer than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VitalUpdate {
    /// Vitals with a value.
    pub present: VitalSet,
    /// Vitals whose last value is older than this one.
    pub newer: VitalSet,
}

impl VitalTimes {
    /// Records the vitals of `reading`, and returns which of them are newer than before.
    pub fn note(&mut self, reading: &Reading) -> VitalUpdate {
        let mut carried = VitalUpdate { present: VitalSet::default(), newer: VitalSet::default() };
        for vital in Vital::ALL {
            if vital.values(reading.vitals()).next().is_none() {
                continue;
            }
            carried.present.add(vital);
            let last = &mut self.0[vital as usize];
            if *last < reading.epoch_ms() {
                *last = reading.epoch_ms();
                carried.newer.add(vital);
            }
        }
        carried
    }

    /// Returns when `sign` was last reported.
    pub fn last(&self, vital: Vital) -> Option<i64> {
        Some(self.0[vital as usize]).filter(|time| *time != NEVER)
    }

    /// Appends the stored form, see [`crate::engine::journal`].
    pub fn write(&self, text: &mut String) {
        let mut written = VitalSet::default();
        for vital in Vital::ALL {
            let time = self.0[vital as usize];
            if time == NEVER || written.contains(vital) {
                continue;
            }
            let alike = Vital::ALL.into_iter().filter(|other| self.0[*other as usize] == time);
            let alike = VitalSet::from_iter(alike);
            if !written.is_empty() {
                text.push(',');
            }
            text.push_str(itoa::Buffer::new().format(time));
            // Writing to memory cannot fail.
            let _ = write!(text, "*{:x}", alike.bits());
            written = VitalSet::from_bits(written.bits() | alike.bits());
        }
        if written.is_empty() {
            text.push('-');
        }
    }

    /// Parses the stored form. Returns `None` for any other text.
    pub fn read(stored: &str) -> Option<Self> {
        let mut seen = Self::default();
        for word in stored.split(',').filter(|_| stored != "-") {
            let (time, signs) = word.split_once('*')?;
            let (time, signs) =
                (time.parse().ok()?, VitalSet::from_bits(u16::from_str_radix(signs, 16).ok()?));
            signs.iter().for_each(|vital| seen.0[vital as usize] = time);
        }
        Some(seen)
    }

    /// Returns the state in which each vital was reported at its time.
    #[cfg(test)]
    pub fn at<const N: usize>(times: [(Vital, i64); N]) -> Self {
        let mut seen = Self::default();
        times.into_iter().for_each(|(vital, time)| seen.0[vital as usize] = time);
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_of_seen_reads_back() {
        let hour = 1_756_785_600_000;
        for (seen, form) in [
            (VitalTimes::default(), "-"),
            (VitalTimes::at([(Vital::HeartRate, hour)]), "1756785600000*1"),
            (
                VitalTimes::at([(Vital::HeartRate, 5), (Vital::Stress, hour), (Vital::Sleep, 5)]),
                "5*401,1756785600000*40",
            ),
        ] {
            let mut text = String::new();
            seen.write(&mut text);
            assert_eq!(text, form);
            assert_eq!(VitalTimes::read(&text), Some(seen));
        }
        assert_eq!(
            VitalTimes::read("5*8001"),
            Some(VitalTimes::at([(Vital::HeartRate, 5)])),
            "a sign to come"
        );
        assert_eq!(
            [VitalTimes::read("5"), VitalTimes::read("5*"), VitalTimes::read("5*1,")],
            [None, None, None]
        );
    }
}
