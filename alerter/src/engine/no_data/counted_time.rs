//! The wall time that counts for missing data, partition by partition.
//!
//! Pure. While gateways cannot write to a partition, or no device at all is seen, the silence of its
//! devices proves nothing. That time is left out until the next record of the partition. Time before
//! the first check does not count either: nobody knows what it was like.
//!
//! Records count by their own time, see [`super::partition_clock`]. Wall time only goes on from the
//! last of them, so a gateway whose clock is slow makes nobody missing. It is added up from check to
//! check, so a wall clock that jumps makes nobody missing either.

use std::collections::BTreeMap;

/// Longest time between two checks that counts, in milliseconds. The clock may have jumped, or this
/// process may have been frozen.
const CHECKS_APART_MAX_MS: i64 = 60_000;

/// What is known about the readings topic. The default knows nothing.
#[derive(Debug, Clone, Default)]
pub struct CountedTime {
    /// Whether the topic has as many partitions as were accepted. With others, devices have moved,
    /// and would seem missing in their former partitions. `None`: not known yet.
    pub has_accepted_partitions: Option<bool>,
    /// The accepted number of partitions, while the topic has as many.
    pub accepted_partitions: Option<i32>,
    /// Time of the last check, in milliseconds.
    checked_ms: i64,
    partitions: BTreeMap<i32, PartitionTime>,
}

#[derive(Debug, Clone, Copy)]
struct PartitionTime {
    end: i64,
    /// Time that counts since the check that found the last record, in milliseconds.
    counted_ms: i64,
}

impl CountedTime {
    /// Takes a check of all partitions at `now_ms`: of each, its last known end, and whether gateways
    /// can write to it. `unseen_ms`: how much of the time up to now does not count anywhere, because
    /// no device was seen. What a check finds is taken to have held since the check before.
    pub fn update(
        &mut self,
        now_ms: i64,
        unseen_ms: i64,
        found: impl Iterator<Item = (i32, i64, bool)>,
    ) {
        let elapsed_ms = now_ms - self.checked_ms;
        let counts = unseen_ms == 0 && (0..=CHECKS_APART_MAX_MS).contains(&elapsed_ms);
        self.checked_ms = now_ms;
        for (partition, end, takes_records) in found {
            match self.partitions.get_mut(&partition) {
                Some(known) if end <= known.end => {
                    if counts && takes_records {
                        known.counted_ms += elapsed_ms;
                    }
                }
                _ => drop(self.partitions.insert(partition, PartitionTime { end, counted_ms: 0 })),
            }
        }
    }

    /// Returns the wall time that counts in a partition since its last record, in milliseconds.
    /// `None`: the partition has never answered.
    pub fn since_last_record(&self, partition: i32) -> Option<i64> {
        self.partitions.get(&partition).map(|known| known.counted_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks partition 0 at these times, in seconds: its end, whether it takes records, and for how
    /// long no device was seen. Returns the seconds that count since its last record.
    fn counted(checks: &[(i64, i64, bool, i64)]) -> Option<i64> {
        let mut time = CountedTime::default();
        for (second, end, takes_records, unseen) in checks {
            let found = std::iter::once((0, *end, *takes_records));
            time.update(second * 1000, unseen * 1000, found);
        }
        Some(time.since_last_record(0)? / 1000)
    }

    #[test]
    fn time_stands_still_while_a_partition_takes_no_records_or_no_device_is_seen() {
        for (checks, expected, case) in [
            (&[][..], None, "nothing is known"),
            (&[(100, 7, true, 0)], Some(0), "the first check"),
            (&[(100, 7, true, 0), (102, 7, true, 0)], Some(2), "nothing new"),
            (&[(100, 7, true, 0), (102, 7, false, 0), (160, 7, false, 0)], Some(0), "an outage"),
            (&[(100, 7, true, 0), (160, 7, false, 0), (162, 7, true, 0)], Some(2), "after it"),
            (&[(100, 7, true, 0), (160, 7, true, 0), (162, 8, true, 0)], Some(0), "a record"),
            (&[(100, 7, false, 0), (160, 7, false, 0)], Some(0), "since the start"),
            (&[(100, 7, false, 0), (160, 7, true, 0)], Some(60), "one check after the start"),
            (&[(100, 7, true, 0), (102, 7, true, 2), (160, 7, true, 60)], Some(0), "nobody"),
            (&[(100, 7, true, 0), (160, 7, true, 60), (162, 7, true, 0)], Some(2), "somebody"),
            (&[(100, 7, true, 0), (161, 7, true, 0), (163, 7, true, 0)], Some(2), "no check"),
            (&[(100, 7, true, 0), (3_702, 7, true, 0), (3_704, 7, true, 0)], Some(2), "ahead"),
            (&[(100, 7, true, 0), (160, 7, true, 0), (40, 7, true, 0)], Some(60), "set back"),
            (&[(160, 7, true, 0), (40, 7, true, 0), (42, 7, true, 0)], Some(2), "after that"),
        ] {
            assert_eq!(counted(checks), expected, "{case}");
        }
    }

    #[test]
    fn a_partition_that_takes_no_records_concerns_itself_alone() {
        let mut time = CountedTime::default();
        for second in [100, 102, 104] {
            time.update(second * 1000, 0, [(0, 7, false), (1, 7, true)].into_iter());
        }
        assert_eq!([0, 1, 2].map(|at| time.since_last_record(at)), [Some(0), Some(4_000), None]);
    }
}
