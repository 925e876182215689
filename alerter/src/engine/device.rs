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
use crate::engine::episode::evaluate::Memory;
use crate::rules::vital::{Sign, Signs};

/// The state of one rule on one device, as it is kept between readings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tracked {
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
    pub memory: Option<Memory>,
}

impl Tracked {
    /// Whether dropping the state loses nothing.
    pub fn is_blank(&self) -> bool {
        self.episode.is_blank() && self.memory.is_none()
    }
}

/// When a device was last seen, with any reading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// Kafka record time, in milliseconds; 0: not known.
    pub at: i64,
    /// User, organisation and tenant of the device then.
    pub ids: Ids,
}

/// The state of one device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Device {
    /// When each vital was last reported.
    pub seen: Seen,
    /// When the device was last seen.
    pub heard: Heard,
    /// State by rule. A rule without state has no entry.
    pub tracked: BTreeMap<i64, Tracked>,
    /// Whether the device is already marked as to be written.
    pub(super) moved: bool,
}

impl Device {
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
pub struct Seen([i64; Sign::ALL.len()]);

/// A time before any reading.
const NEVER: i64 = i64::MIN;

impl Default for Seen {
    fn default() -> Self {
        Self([NEVER; Sign::ALL.len()])
    }
}

/// The vitals that a reading carries, and the ones among them that are newer than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Vitals with a value.
    pub all: Signs,
    /// Vitals whose last value is older than this one.
    pub fresh: Signs,
}

impl Seen {
    /// Records the vitals of `reading`, and returns which of them are newer than before.
    pub fn note(&mut self, reading: &Reading) -> Carried {
        let mut carried = Carried { all: Signs::default(), fresh: Signs::default() };
        for sign in Sign::ALL {
            if sign.values(reading.vitals()).next().is_none() {
                continue;
            }
            carried.all.add(sign);
            let last = &mut self.0[sign as usize];
            if *last < reading.epoch_ms() {
                *last = reading.epoch_ms();
                carried.fresh.add(sign);
            }
        }
        carried
    }

    /// Returns when `sign` was last reported.
    pub fn last(&self, sign: Sign) -> Option<i64> {
        Some(self.0[sign as usize]).filter(|time| *time != NEVER)
    }

    /// Appends the stored form, see [`crate::engine::journal`].
    pub fn write(&self, text: &mut String) {
        let mut written = Signs::default();
        for sign in Sign::ALL {
            let time = self.0[sign as usize];
            if time == NEVER || written.contains(sign) {
                continue;
            }
            let alike = Sign::ALL.into_iter().filter(|other| self.0[*other as usize] == time);
            let alike = Signs::from_iter(alike);
            if !written.is_empty() {
                text.push(',');
            }
            text.push_str(itoa::Buffer::new().format(time));
            // Writing to memory cannot fail.
            let _ = write!(text, "*{:x}", alike.bits());
            written = Signs::from_bits(written.bits() | alike.bits());
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
                (time.parse().ok()?, Signs::from_bits(u16::from_str_radix(signs, 16).ok()?));
            signs.iter().for_each(|sign| seen.0[sign as usize] = time);
        }
        Some(seen)
    }

    /// Returns the state in which each vital was reported at its time.
    #[cfg(test)]
    pub fn at<const N: usize>(times: [(Sign, i64); N]) -> Self {
        let mut seen = Self::default();
        times.into_iter().for_each(|(sign, time)| seen.0[sign as usize] = time);
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
            (Seen::default(), "-"),
            (Seen::at([(Sign::HeartRate, hour)]), "1756785600000*1"),
            (
                Seen::at([(Sign::HeartRate, 5), (Sign::Stress, hour), (Sign::Sleep, 5)]),
                "5*401,1756785600000*40",
            ),
        ] {
            let mut text = String::new();
            seen.write(&mut text);
            assert_eq!(text, form);
            assert_eq!(Seen::read(&text), Some(seen));
        }
        assert_eq!(Seen::read("5*8001"), Some(Seen::at([(Sign::HeartRate, 5)])), "a sign to come");
        assert_eq!([Seen::read("5"), Seen::read("5*"), Seen::read("5*1,")], [None, None, None]);
    }
}
