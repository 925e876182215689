//! Finds the episodes that owe a notification, so that a look costs the owed and not the devices.
//!
//! Pure. Kept in memory only: a restart begins the waits again. What is owed is part of the episode,
//! see [`crate::engine::episode`].

use std::collections::{BTreeMap, BTreeSet};

use ljwx_reading::{DeviceSn, Ids};

use crate::engine::episode::EpisodeKey;

/// Wall time between two tries of what is owed, in milliseconds.
pub const OWED_INTERVAL_MS: i64 = 60_000;

/// A rule on a device.
pub type EpisodePlace = (DeviceSn, i64);

/// The places of the episodes that owe a notification, each with the wall time of its last try.
/// `None`: not tried since the partition was loaded.
#[derive(Debug, Default)]
pub struct OwedIndex(BTreeMap<EpisodePlace, Option<i64>>);

/// The states that steps have changed.
#[derive(Debug, Default)]
pub struct TouchedStates {
    /// States that are to be written.
    pub stepped: BTreeSet<(i64, DeviceSn)>,
    /// Episodes that owe a notification.
    pub owed: OwedIndex,
    /// Open episodes that concern other people than before, and these people.
    pub people: Vec<(EpisodeKey, Ids)>,
}

impl OwedIndex {
    /// Takes over the episodes that owe a notification after a start.
    pub fn set(&mut self, places: impl Iterator<Item = EpisodePlace>) {
        self.0 = places.map(|place| (place, None)).collect();
    }

    /// Takes over a step at wall time `now_ms`: whether the episode owed a notification before and
    /// after the step, and whether the step tried to notify.
    pub fn step(
        &mut self,
        (device_sn, rule_id): (&DeviceSn, i64),
        [before, after]: [bool; 2],
        tried: bool,
        now_ms: i64,
    ) {
        if after && (tried || !before) {
            self.0.insert((device_sn.clone(), rule_id), Some(now_ms));
        } else if before && !after {
            self.0.remove(&(device_sn.clone(), rule_id));
        }
    }

    /// Returns the places whose last try is long enough ago.
    pub fn due(&mut self, now_ms: i64) -> Vec<EpisodePlace> {
        let mut due = Vec::new();
        for (place, tried) in &mut self.0 {
            let last = *tried.get_or_insert(now_ms);
            // A clock that was set back must not put off the try until it has caught up.
            if (now_ms - last).abs() >= OWED_INTERVAL_MS {
                due.push(place.clone());
            }
        }
        due
    }

    /// Returns all places.
    pub fn places(&self) -> impl Iterator<Item = &EpisodePlace> {
        self.0.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_due_a_minute_after_its_last_try_or_after_the_start() {
        let sn = DeviceSn::new("A1").unwrap();
        let mut index = OwedIndex::default();
        index.set(std::iter::once((sn.clone(), 1)));
        index.step((&sn, 2), [false, true], false, 5_000);
        let mut due = |now_ms: i64| -> Vec<i64> {
            index.due(now_ms).into_iter().map(|(_, rule_id)| rule_id).collect()
        };
        assert_eq!(due(10_000), [0; 0], "the wait of a loaded one begins now");
        assert_eq!(due(64_999), [0; 0]);
        assert_eq!(due(65_000), [2]);
        assert_eq!(due(70_000), [1, 2]);
        assert_eq!(due(-60_000), [1, 2], "the clock was set back");
        index.step((&sn, 2), [true, true], true, 65_000);
        index.step((&sn, 1), [true, true], false, 65_000);
        assert_eq!(index.due(80_000), [(sn.clone(), 1)], "only a try begins the wait anew");
        index.step((&sn, 1), [true, false], true, 80_000);
        index.step((&sn, 2), [true, false], true, 80_000);
        assert_eq!(index.places().count(), 0);
    }
}
