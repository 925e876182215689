//! The wall time that counts for missing data, partition by partition.
//!
//! Pure. While gateways cannot write to a partition, or no device at all is seen, the silence of its
//! devices proves nothing. That time is left out until the next record of the partition. Records
//! count by their own time, see [`super::partition_clock`].

use std::collections::BTreeMap;

/// Time for which a partition counts as having taken no records that takes none at its first check, in
/// milliseconds: a day. Nobody knows since when.
const OUTAGE_UNKNOWN_MS: i64 = 86_400_000;

/// What is known about the readings topic. The default knows nothing.
#[derive(Debug, Clone, Default)]
pub struct CountedTime {
    /// Whether the topic has as many partitions as were accepted. With others, devices have moved,
    /// and would seem missing in their former partitions. `None`: not known yet.
    pub has_accepted_partitions: Option<bool>,
    /// Time of the last check, in milliseconds.
    checked_ms: i64,
    partitions: BTreeMap<i32, PartitionTime>,
}

/// A partition as a check found it.
#[derive(Debug, Clone, Copy)]
pub struct PartitionCheck {
    /// The partition.
    pub partition: i32,
    /// Its last known end.
    pub end: i64,
    /// Whether gateways can write to it.
    pub takes_records: bool,
}

#[derive(Debug, Clone, Copy)]
struct PartitionTime {
    end: i64,
    /// Time since the last record that does not count, in milliseconds.
    lost_ms: i64,
}

impl CountedTime {
    /// Takes a check of all partitions at `now_ms`. `unseen_ms`: how much of the time up to now does
    /// not count anywhere, because no device was seen. What a check finds is taken to have held since
    /// the check before.
    pub fn update(
        &mut self,
        now_ms: i64,
        unseen_ms: i64,
        found: impl Iterator<Item = PartitionCheck>,
    ) {
        let elapsed_ms = (now_ms - self.checked_ms).max(0);
        self.checked_ms = now_ms;
        for PartitionCheck { partition, end, takes_records } in found {
            let Some(known) = self.partitions.get_mut(&partition) else {
                let lost_ms = if takes_records { unseen_ms } else { OUTAGE_UNKNOWN_MS };
                self.partitions.insert(partition, PartitionTime { end, lost_ms });
                continue;
            };
            if end > known.end {
                *known = PartitionTime { end, lost_ms: 0 };
            } else if unseen_ms > 0 || !takes_records {
                known.lost_ms += elapsed_ms;
            }
        }
    }

    /// Returns the wall time until which missing data counts in a partition, in milliseconds. `None`:
    /// the partition has never answered.
    pub fn until(&self, partition: i32) -> Option<i64> {
        let known = self.partitions.get(&partition)?;
        Some(self.checked_ms - known.lost_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks partition 0 at these times, in seconds: its end, whether it takes records, and for how
    /// long no device was seen. Returns until when time counts.
    fn until(checks: &[(i64, i64, bool, i64)]) -> Option<i64> {
        let mut time = CountedTime::default();
        for (second, end, takes_records, unseen) in checks {
            let found = PartitionCheck { partition: 0, end: *end, takes_records: *takes_records };
            time.update(second * 1000, unseen * 1000, std::iter::once(found));
        }
        Some(time.until(0)? / 1000)
    }

    #[test]
    fn time_stands_still_while_a_partition_takes_no_records_or_no_device_is_seen() {
        for (checks, expected, case) in [
            (&[][..], None, "nothing is known"),
            (&[(100, 7, true, 0)], Some(100), "the first check"),
            (&[(100, 7, true, 0), (102, 7, true, 0)], Some(102), "nothing new"),
            (&[(100, 7, true, 0), (102, 7, false, 0), (160, 7, false, 0)], Some(100), "an outage"),
            (&[(100, 7, true, 0), (160, 7, false, 0), (162, 7, true, 0)], Some(102), "after it"),
            (&[(100, 7, true, 0), (160, 7, false, 0), (162, 8, true, 0)], Some(162), "a record"),
            (&[(100, 7, false, 0), (160, 7, false, 0)], Some(100 - 86_400), "since the start"),
            (&[(100, 7, false, 0), (160, 8, true, 0)], Some(160), "a record after the start"),
            (&[(100, 7, true, 0), (102, 7, true, 2), (160, 7, true, 60)], Some(100), "nobody"),
            (&[(100, 7, true, 0), (160, 7, true, 60), (162, 7, true, 0)], Some(102), "somebody"),
            (&[(160, 7, true, 60)], Some(100), "nobody since before the start"),
            (&[(100, 7, true, 0), (40, 7, false, 0)], Some(40), "the clock was set back"),
        ] {
            assert_eq!(until(checks), expected, "{case}");
        }
    }

    #[test]
    fn a_partition_that_takes_no_records_concerns_itself_alone() {
        let mut time = CountedTime::default();
        for second in [100, 102, 104] {
            let found =
                |partition| PartitionCheck { partition, end: 7, takes_records: partition == 1 };
            time.update(second * 1000, 0, [0, 1].map(found).into_iter());
        }
        let expected = [Some(100_000 - OUTAGE_UNKNOWN_MS), Some(104_000), None];
        assert_eq!([0, 1, 2].map(|at| time.until(at)), expected);
    }
}
