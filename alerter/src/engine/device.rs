//! What is remembered of one device between readings.
//!
//! Pure. How it moves on belongs to `step` and [`crate::engine::no_data`]; how it is stored, to
//! [`crate::engine::journal`] and `persisted_state`.

use std::collections::BTreeMap;
use std::fmt::Write;

use indexmap::IndexMap;
use ljwx_reading::{DeviceSn, Ids, Reading};
use serde::{Deserialize, Serialize};

use crate::engine::episode::Episode;
use crate::engine::episode::evaluate::Memory;
use crate::rules::vital::{Sign, Signs};

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
    /// Whether nothing would be lost by forgetting it.
    pub fn is_blank(&self) -> bool {
        self.episode.is_blank() && self.memory.is_none()
    }
}

/// A device's last sign of life, whatever it said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// Kafka record time, in milliseconds; 0: not known.
    pub at: i64,
    /// Whose device it was.
    pub ids: Ids,
}

/// What is known of one device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Device {
    /// When each sign was last reported.
    pub seen: Seen,
    /// When it was heard last.
    pub heard: Heard,
    /// By rule; a rule with nothing to remember has no entry.
    pub tracked: BTreeMap<i64, Tracked>,
    /// Whether it was heard since what changed was last asked for.
    pub(super) moved: bool,
}

impl Device {
    /// Notes, once, that the device at this place is to be written.
    pub(super) fn moves(&mut self, place: usize, moved: &mut Vec<usize>) {
        if !std::mem::replace(&mut self.moved, true) {
            moved.push(place);
        }
    }
}

/// Devices of a partition. None is ever taken out, so that each keeps its place.
pub type Devices = IndexMap<DeviceSn, Device, ahash::RandomState>;

/// When a device last reported each sign, in milliseconds of event time.
///
/// Kept by device rather than by rule: what counts as late must not depend on which rules were in
/// force when a reading came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen([i64; Sign::ALL.len()]);

/// Before any time a reading can have.
const NEVER: i64 = i64::MIN;

impl Default for Seen {
    fn default() -> Self {
        Self([NEVER; Sign::ALL.len()])
    }
}

/// What a reading brings to a device: the signs it carries, and those of them that are news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Signs with a value.
    pub all: Signs,
    /// Signs whose last value is older than this one.
    pub fresh: Signs,
}

impl Seen {
    /// Notes the signs of `reading` and says which of them are newer than what was seen.
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

    /// When `sign` was last reported.
    pub fn last(&self, sign: Sign) -> Option<i64> {
        Some(self.0[sign as usize]).filter(|time| *time != NEVER)
    }

    /// Adds the form it is stored in, see [`crate::engine::journal`].
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

    /// Reads the stored form; `None` where it is none.
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

    /// As if each sign had been reported at its time.
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
