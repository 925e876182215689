//! The state of one device between readings.
//!
//! Pure. `step` and [`crate::engine::no_data`] advance the state. [`crate::engine::journal`] and
//! `persisted_state` define how it is stored.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use ljwx_reading::{DeviceSn, Ids, Reading};
use serde::{Deserialize, Serialize};

use crate::engine::episode::Episode;
use crate::engine::episode::evaluate::EvaluationState;
use crate::rules::{Rule, TEMPLATE_TENANT, Trigger, Vital, VitalSet};

/// The state of one rule on one device, as it is kept between readings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleState {
    /// Version of the rule that this state belongs to; stored in a column of its own.
    #[serde(skip)]
    pub version: i64,
    /// User, organisation and tenant: those of the latest reading. Once somebody was notified of an
    /// open episode they do not change, because its later notices go to the same people. Neither do
    /// they while the device's tenant is not known any more.
    #[serde(default)]
    pub ids: Ids,
    /// The last known wearer. A reading without one names no other person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worn_by: Option<i64>,
    /// Whether the platform's tables bound the device of an absence to its wearer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_bound: bool,
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

/// Returns the tenant whose rules concern a device with these ids.
pub fn tenant(ids: Ids) -> i64 {
    ids.customer_id.unwrap_or(TEMPLATE_TENANT)
}

/// When a device was last seen, with a reading that was evaluated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LastSeen {
    /// The partition's clock then, in milliseconds; 0: not known, or the device counts as seen no
    /// more.
    pub at: i64,
    /// User, organisation and tenant of the device then.
    pub ids: Ids,
}

/// The latest record of a device, evaluated or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LastRecord {
    /// The partition's clock then, in milliseconds; 0: not known.
    pub at: i64,
    /// Seconds between this record and the one before; 0: not known, or an outage lay between them.
    pub interval_s: i64,
    /// Whether its reading was ahead of the clock.
    pub is_ahead: bool,
}

impl LastRecord {
    /// Notes a record at `clock_ms` of the partition's clock. Records of one second are one: a watch
    /// uploads what it has kept all at once.
    pub(super) fn note(&mut self, clock_ms: i64, is_ahead: bool) {
        self.is_ahead = is_ahead;
        let elapsed_s = (clock_ms - self.at) / 1000;
        if elapsed_s > 0 {
            self.interval_s = if self.at == 0 { 0 } else { elapsed_s };
            self.at = clock_ms;
        }
    }

    /// Whether a record at `clock_ms` comes later than the device's usual interval explains.
    pub(super) fn is_late_at(self, clock_ms: i64) -> bool {
        // 1.5 times the interval, in whole milliseconds.
        self.interval_s == 0 || (clock_ms - self.at) * 2 > self.interval_s * 3_000
    }
}

/// What a device that is missing still sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Silence {
    /// No record at all.
    #[default]
    Silent,
    /// Readings ahead of the clock.
    ClockWrong,
    /// Readings of times that were reported before.
    NothingNew,
}

impl Silence {
    /// Whether the device sends nothing.
    pub fn is_silent(&self) -> bool {
        *self == Self::Silent
    }

    /// Returns the words shown to the people who are notified.
    pub fn label(self) -> &'static str {
        match self {
            Self::Silent => "设备失联",
            Self::ClockWrong => "设备时钟错误",
            Self::NothingNew => "设备无新数据",
        }
    }
}

/// The state of one device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Device {
    /// When each vital was last reported.
    pub seen: VitalTimes,
    /// When the device was last seen.
    pub last_seen: LastSeen,
    /// The device's latest record.
    pub last_record: LastRecord,
    /// Whether the platform's tables bound the device to its wearer when it was last seen. In memory
    /// only.
    pub is_bound: bool,
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

    /// Returns the partition's clock at which the device was last seen, for a check of `rule`.
    ///
    /// A device that counts as seen no more is not missed. Its open episodes still become stale, counted
    /// from its latest record.
    pub(super) fn seen_at(&self, rule: &Rule) -> i64 {
        match rule.trigger {
            Trigger::Range(_) | Trigger::Conditions(_) if self.last_seen.at == 0 => {
                self.last_record.at
            }
            Trigger::NoData(_) | Trigger::Range(_) | Trigger::Conditions(_) => self.last_seen.at,
        }
    }

    /// Returns what the device still sends at `clock_ms` of the partition's clock, while it is
    /// missing. Records that have ended as well are none.
    pub(super) fn silence(&self, clock_ms: i64) -> Silence {
        match self.last_record {
            record if record.at <= self.last_seen.at || record.is_late_at(clock_ms) => {
                Silence::Silent
            }
            LastRecord { is_ahead: true, .. } => Silence::ClockWrong,
            LastRecord { .. } => Silence::NothingNew,
        }
    }

    /// Takes over what the journal keeps of a device.
    pub fn take_times(&mut self, read: Self) {
        let Self { seen, last_seen, last_record, .. } = read;
        *self = Self { seen, last_seen, last_record, ..std::mem::take(self) };
    }

    /// Marks the device at this place, once, as to be written.
    pub(super) fn moves(&mut self, place: usize, moved: &mut Vec<usize>) {
        if !std::mem::replace(&mut self.moved, true) {
            moved.push(place);
        }
    }
}

/// Devices of a partition. Devices are removed only while none is marked as to be written, so their
/// places stay valid until then.
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
        let (mut present, mut newer, at) = (0, 0, reading.epoch_ms());
        for (place, (value, last)) in
            Vital::each(reading.vitals()).iter().zip(&mut self.0).enumerate()
        {
            if value.is_some() {
                present |= 1 << place;
                newer |= u16::from(*last < at) << place;
                *last = at.max(*last);
            }
        }
        let (present, mut newer) = (VitalSet::from_bits(present), VitalSet::from_bits(newer));
        let pressure = &mut self.0[Vital::BloodPressure as usize];
        // The two pressures of one second may come in two readings.
        if newer.intersects(VitalSet::PRESSURES) && *pressure <= at {
            *pressure = at;
            newer.add(Vital::BloodPressure);
        }
        VitalUpdate { present, newer }
    }

    /// Returns when `vital` was last reported.
    pub fn last(&self, vital: Vital) -> Option<i64> {
        Some(self.0[vital as usize]).filter(|time| *time != NEVER)
    }

    /// Appends the stored form, see [`crate::engine::journal`].
    pub fn write(&self, text: &mut String) {
        let mut left: VitalSet =
            Vital::ALL.into_iter().filter(|vital| self.0[*vital as usize] != NEVER).collect();
        if left.is_empty() {
            text.push('-');
        }
        let mut separator = "";
        while let Some(vital) = left.first() {
            let time = self.0[vital as usize];
            let alike = Vital::ALL.into_iter().filter(|other| self.0[*other as usize] == time);
            let alike = VitalSet::from_iter(alike);
            text.push_str(separator);
            text.push_str(itoa::Buffer::new().format(time));
            text.push('*');
            push_hexadecimal(text, alike.bits());
            left = left.without(alike);
            separator = ",";
        }
    }

    /// Parses the stored form. Returns `None` for any other text.
    pub fn read(stored: &str) -> Option<Self> {
        let mut seen = Self::default();
        for word in stored.split(',').filter(|_| stored != "-") {
            let (time, vitals) = word.split_once('*')?;
            let (time, bits) = (time.parse().ok()?, u16::from_str_radix(vitals, 16).ok()?);
            VitalSet::from_bits(bits).iter().for_each(|vital| seen.0[vital as usize] = time);
        }
        Some(seen)
    }
}

/// Appends a number without leading zeros. The formatter of the standard library would cost more
/// than the rest of a device's line.
fn push_hexadecimal(text: &mut String, number: u16) {
    let digits = (u16::BITS - number.leading_zeros()).div_ceil(4).max(1);
    let digit = |place: u32| char::from_digit(u32::from(number >> (4 * place)) & 0xf, 16);
    text.extend((0..digits).rev().filter_map(digit));
}

#[cfg(test)]
mod tests {
    use super::*;

    impl VitalTimes {
        /// Returns the state in which each vital was reported at its time.
        pub fn at<const N: usize>(times: [(Vital, i64); N]) -> Self {
            let mut seen = Self::default();
            times.into_iter().for_each(|(vital, time)| seen.0[vital as usize] = time);
            seen
        }
    }

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
            "a vital to come"
        );
        assert_eq!(
            [VitalTimes::read("5"), VitalTimes::read("5*"), VitalTimes::read("5*1,")],
            [None, None, None]
        );
    }
}
