//! What a partition persists, and what changed since the last commit.
//!
//! Pure. [`crate::mysql::state_rows`] writes and reads the state.

use ljwx_reading::{DeviceSn, Ids};

use crate::engine::device::{Devices, RuleState};
use crate::engine::episode::EpisodeKey;
use crate::engine::journal::{JournalBatch, JournalSize};
use crate::engine::no_data::partition_clock::PartitionClock;
use crate::engine::partition::Partition;

/// State to write.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StateChanges {
    /// The devices that were seen.
    pub journal: JournalBatch,
    /// States of rules on devices, in the order of the table's key; `None`: the state is to be
    /// removed.
    pub tracked: Vec<(i64, DeviceSn, Option<RuleState>)>,
    /// The partition's clock; `None`: the clock is not to be written.
    pub clock: Option<PartitionClock>,
    /// Whether the starts of the windows are to be written as well.
    pub windows_moved: bool,
    /// Open episodes that concern other people than before, and these people.
    pub people: Vec<(EpisodeKey, Ids)>,
}

/// The stored state of a partition.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoredPartition {
    /// The devices.
    pub devices: Devices,
    /// The size of their journal.
    pub journal: JournalSize,
    /// The partition's clock.
    pub clock: PartitionClock,
}

impl Partition {
    /// Returns the changes since the last call.
    pub(super) fn take_changes(&mut self) -> StateChanges {
        let journal = self.journal_entry();
        let devices = &self.devices;
        let stepped = std::mem::take(&mut self.touched.stepped).into_iter();
        StateChanges {
            journal,
            tracked: stepped
                .map(|(id, sn)| {
                    let tracked = devices.get(&sn).and_then(|device| device.tracked.get(&id));
                    let tracked = tracked.cloned();
                    (id, sn, tracked)
                })
                .collect(),
            clock: std::mem::take(&mut self.clock_changed).then(|| self.clock.clone()),
            windows_moved: std::mem::take(&mut self.windows_moved),
            people: std::mem::take(&mut self.touched.people),
        }
    }

    /// Returns the journal's next entry: the changed devices, or all devices if the journal is
    /// long.
    fn journal_entry(&mut self) -> JournalBatch {
        let moved = std::mem::take(&mut self.moved);
        let whole = !moved.is_empty() && self.journal.is_due(self.devices.len());
        moved.iter().for_each(|place| self.devices[*place].moved = false);
        let entry = if whole {
            self.journal = JournalSize::default();
            JournalBatch::new(self.devices.iter(), true)
        } else {
            let known = moved.iter().filter_map(|place| self.devices.get_index(*place));
            JournalBatch::new(known, false)
        };
        entry.rows.iter().for_each(|row| self.journal.add(row.lines));
        entry
    }
}
