//! Computes the lag of a group, partition by partition. Pure: observations are arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Instant;

use crate::ledger::LedgerRow;
use ljwx_service::kafka::topic_ends::{OffsetRanges, TopicEnds, TopicWatermarks};

/// Age of the oldest unprocessed record above which a partition counts as lagging.
const LAGGING_SECONDS: f64 = 5.0;

/// The observations of one check.
#[derive(Debug, Clone, Default)]
pub struct GroupState {
    /// The group's rows in the ledger by partition, with the last owner of each.
    pub ledger: BTreeMap<i32, (LedgerRow, String)>,
    /// The number of the topic's partitions.
    pub partitions: usize,
    /// The last known watermarks of the topic's partitions. A partition that has had no leader since
    /// the first check is left out.
    pub ends: TopicWatermarks,
    /// The partitions that did not answer last.
    pub unanswered: BTreeSet<i32>,
    /// The Kafka record time of the oldest unprocessed record, if known.
    pub oldest_ms: BTreeMap<i32, i64>,
    /// Ranges up to a partition's end that hold no record, only transaction markers and aborted
    /// records. They are no lag.
    pub void: OffsetRanges,
    /// How long Kafka keeps a record. `None`: for ever.
    pub retention_ms: Option<i64>,
    /// The Kafka record time of the first record of partitions that Kafka trims by size.
    pub first_ms: BTreeMap<i32, i64>,
    /// The number of in-sync replicas of each partition that has a leader.
    pub insync: BTreeMap<i32, usize>,
    /// In-sync replicas without which gateways cannot write to a partition. `None`: not known.
    pub insync_min: Option<usize>,
}

impl GroupState {
    /// Takes over the answers of one check. A partition without an answer keeps its last known
    /// watermarks.
    pub fn update_ends(&mut self, found: TopicEnds) {
        let TopicEnds { known, unanswered, insync } = found;
        self.partitions = known.len() + unanswered.len();
        self.ends.retain(|partition, _| unanswered.contains(partition));
        self.ends.extend(known);
        self.unanswered = unanswered;
        self.insync = insync;
    }

    /// Whether gateways can write to a partition: its leader answers, and enough replicas are in
    /// sync. If the brokers do not show how many are needed, the leader is enough: a missing right
    /// must not keep missing data from being noticed.
    pub fn takes_records(&self, partition: i32) -> bool {
        let insync = self.insync.get(&partition).copied().unwrap_or_default();
        !self.unanswered.contains(&partition) && insync >= self.insync_min.unwrap_or(1)
    }

    /// Returns how long Kafka keeps a record of a partition. `None`: for ever.
    ///
    /// If Kafka trims the partition by size, the age of its first record is how long the size lasts
    /// at the present rate.
    fn kept_ms(&self, partition: i32, now_ms: i64) -> Option<i64> {
        let by_size = self.first_ms.get(&partition).map(|first| (now_ms - first).max(0));
        [self.retention_ms, by_size].into_iter().flatten().min()
    }

    /// Returns the next offset of a partition. A partition without a row starts at its first
    /// record.
    fn next(&self, partition: i32) -> i64 {
        let low = self.ends.get(&partition).map_or(0, |ends| ends.low);
        self.ledger.get(&partition).map_or(low, |(entry, _)| entry.next_offset.max(low))
    }

    /// Returns the unprocessed range of a partition up to its end. Empty if the range holds no
    /// record.
    fn rest(&self, partition: i32) -> Range<i64> {
        let next = self.next(partition);
        let high = self.ends.get(&partition).map_or(next, |ends| ends.high.max(next));
        let rest = next..high;
        if self.void.get(&partition) == Some(&rest) { high..high } else { rest }
    }

    /// Whether the position lies behind the end of the topic: no record can follow there.
    fn is_beyond(&self, partition: i32) -> bool {
        let end = self.ends.get(&partition).map(|ends| ends.high);
        end.is_some_and(|end| self.next(partition) > end)
    }

    /// Returns the partitions that may have unprocessed records, with their ranges.
    pub fn waiting(&self) -> OffsetRanges {
        let rests = self.ends.keys().map(|partition| (*partition, self.rest(*partition)));
        rests.filter(|(_, rest)| !rest.is_empty()).collect()
    }
}

/// The lag of one partition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lag {
    /// The partition.
    pub partition: i32,
    /// Unprocessed records.
    pub records: i64,
    /// Age of the oldest unprocessed record. 0 without lag.
    pub seconds: f64,
    /// Time without progress, with lag or with a position behind the end of the topic.
    pub stalled_seconds: f64,
    /// Time until retention removes the oldest unprocessed record. `None`: never.
    pub retention_left_seconds: Option<f64>,
}

/// Tracks when each partition moved last.
#[derive(Debug, Default)]
pub struct StallClock(BTreeMap<i32, (i64, Instant)>);

impl StallClock {
    /// Returns the lag of each partition of the topic.
    pub fn lags(&mut self, seen: &GroupState, now_ms: i64, now: Instant) -> Vec<Lag> {
        let partitions = seen.ends.keys();
        partitions
            .map(|partition| {
                let (next, rest) = (seen.next(*partition), seen.rest(*partition));
                let records = rest.end - rest.start;
                let known = self.0.entry(*partition).or_insert((next, now));
                // A partition without lag cannot stall, unless its position is outside the topic:
                // restart its clock.
                if known.0 != next || (records == 0 && !seen.is_beyond(*partition)) {
                    *known = (next, now);
                }
                let oldest_ms = seen.oldest_ms.get(partition).filter(|_| records > 0);
                let age_ms = oldest_ms.map_or(0, |oldest| (now_ms - oldest).max(0));
                Lag {
                    partition: *partition,
                    records,
                    seconds: age_ms as f64 / 1000.0,
                    stalled_seconds: now.saturating_duration_since(known.1).as_secs_f64(),
                    retention_left_seconds: seen
                        .kept_ms(*partition, now_ms)
                        .map(|kept| (kept - age_ms) as f64 / 1000.0),
                }
            })
            .collect()
    }
}

/// Whether an owner has several lagging partitions, so that another replica would take some of
/// them.
pub fn more_replicas_help(seen: &GroupState, lags: &[Lag]) -> bool {
    let mut lagging: BTreeMap<&str, usize> = BTreeMap::new();
    for lag in lags.iter().filter(|lag| lag.seconds > LAGGING_SECONDS) {
        if let Some((_, owner)) = seen.ledger.get(&lag.partition) {
            *lagging.entry(owner).or_default() += 1;
        }
    }
    lagging.values().any(|partitions| *partitions > 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use ljwx_service::kafka::topic_ends::Watermarks;

    const HOUR: Duration = Duration::from_secs(3600);

    fn row(next_offset: i64, owner: &str) -> (LedgerRow, String) {
        (LedgerRow { next_offset, ..LedgerRow::default() }, owner.to_owned())
    }

    fn seen(high: i64) -> GroupState {
        GroupState {
            ledger: [(0, row(90, "a")), (1, row(100, "a"))].into(),
            partitions: 3,
            ends: (0..3).map(|partition| (partition, Watermarks { low: 10, high })).collect(),
            unanswered: BTreeSet::new(),
            oldest_ms: [(0, 1_000), (1, 5_000), (2, 7_000)].into(),
            void: BTreeMap::new(),
            retention_ms: Some(60_000),
            ..GroupState::default()
        }
    }

    #[test]
    fn lag_is_counted_in_records_and_seconds_and_a_partition_without_a_row_waits_from_its_start() {
        let mut progress = StallClock::default();
        let lags = progress.lags(&seen(100), 11_000, Instant::now());
        let found: Vec<_> = lags
            .iter()
            .map(|lag| (lag.records, lag.seconds, lag.retention_left_seconds.unwrap()))
            .collect();
        assert_eq!(found, [(10, 10.0, 50.0), (0, 0.0, 60.0), (90, 4.0, 56.0)]);
        assert_eq!(seen(100).waiting(), [(0, 90..100), (2, 10..100)].into());
    }

    #[test]
    fn a_partition_trimmed_by_size_keeps_records_as_long_as_its_first_one() {
        let left = |retention_ms, first_ms| {
            let first_ms = [(0, first_ms)].into();
            let seen = GroupState { retention_ms, first_ms, ..seen(100) };
            StallClock::default().lags(&seen, 11_000, Instant::now())[0].retention_left_seconds
        };
        assert_eq!(left(Some(60_000), -19_000), Some(20.0), "30 s last, 10 s have passed");
        assert_eq!(left(Some(60_000), -89_000), Some(50.0), "the time ends before the size");
        assert_eq!(left(None, -19_000), Some(20.0));
        assert_eq!(left(Some(60_000), 1_000), Some(0.0), "the oldest one is removed next");
    }

    #[test]
    fn an_end_without_a_record_is_no_lag_until_something_follows_it() {
        let ended = |high| GroupState { void: [(0, 90..100)].into(), ..seen(high) };
        let mut progress = StallClock::default();
        let start = Instant::now();
        for (high, after, records, stalled) in
            [(100, Duration::ZERO, 0, 0.0), (100, HOUR, 0, 0.0), (101, HOUR, 11, 0.0)]
        {
            let lag = progress.lags(&ended(high), 11_000, start + after)[0];
            assert_eq!((lag.records, lag.stalled_seconds), (records, stalled), "up to {high}");
        }
        assert!(!ended(100).waiting().contains_key(&0), "it need not be asked for again");
    }

    #[test]
    fn a_partition_is_stalled_from_when_it_had_lag_and_did_not_move() {
        let mut progress = StallClock::default();
        let start = Instant::now();
        let mut stalled = |seen: &GroupState, at: Duration| {
            progress
                .lags(seen, 0, start + at)
                .iter()
                .map(|lag| lag.stalled_seconds)
                .collect::<Vec<_>>()
        };
        assert_eq!(stalled(&seen(100), Duration::ZERO), [0.0; 3]);
        assert_eq!(stalled(&seen(100), HOUR), [3600.0, 0.0, 3600.0], "one has nothing to do");
        let mut moved = seen(100);
        moved.ledger.insert(0, row(95, "a"));
        assert_eq!(stalled(&moved, HOUR * 2), [0.0, 0.0, 7200.0]);
    }

    #[test]
    fn a_position_behind_the_end_of_the_topic_is_stalled_although_nothing_waits() {
        let mut progress = StallClock::default();
        let start = Instant::now();
        for (high, after, stalled) in
            [(100, Duration::ZERO, 0.0), (89, HOUR, 3600.0), (90, HOUR, 0.0)]
        {
            let lag = progress.lags(&seen(high), 0, start + after)[0];
            assert_eq!((lag.stalled_seconds, lag.records > 0), (stalled, high == 100), "{high}");
        }
    }

    #[test]
    fn a_partition_without_an_answer_keeps_its_ends_and_counts() {
        let ends = |high| Watermarks { low: 10, high };
        let mut seen = GroupState::default();
        for (known, unanswered, expected) in [
            (&[(0, ends(20))][..], &[1][..], &[(0, ends(20))][..]),
            (&[(1, ends(30))], &[0], &[(0, ends(20)), (1, ends(30))]),
            (&[], &[0, 1], &[(0, ends(20)), (1, ends(30))]),
        ] {
            let [known, expected]: [TopicWatermarks; 2] =
                [known, expected].map(|ends| ends.iter().copied().collect());
            let unanswered: BTreeSet<i32> = unanswered.iter().copied().collect();
            let count = unanswered.len();
            seen.update_ends(TopicEnds { known, unanswered, ..TopicEnds::default() });
            assert_eq!((seen.partitions, seen.unanswered.len()), (2, count));
            assert_eq!(seen.ends, expected, "{:?}", seen.unanswered);
        }
    }

    #[test]
    fn a_partition_takes_records_with_a_leader_and_enough_replicas_in_sync() {
        let mut seen = GroupState::default();
        seen.update_ends(TopicEnds {
            unanswered: [2, 3].into(),
            insync: [(0, 3), (1, 1), (2, 3)].into(),
            ..TopicEnds::default()
        });
        let takes = |seen: &GroupState| [0, 1, 2, 3].map(|partition| seen.takes_records(partition));
        assert_eq!(takes(&seen), [true, true, false, false], "the setting is not known");
        seen.insync_min = Some(2);
        assert_eq!(takes(&seen), [true, false, false, false]);
    }

    #[test]
    fn more_replicas_help_who_owns_several_lagging_partitions() {
        for (owners, helps) in [(["a", "a", "b"], true), (["a", "b", "c"], false)] {
            let mut seen = seen(200);
            seen.ledger = (0..3).map(|at| (at, row(20, owners[at as usize]))).collect();
            let lags = StallClock::default().lags(&seen, 60_000, Instant::now());
            assert_eq!(more_replicas_help(&seen, &lags), helps, "{owners:?}");
            let fresh = StallClock::default().lags(&seen, 7_500, Instant::now());
            assert!(!more_replicas_help(&seen, &fresh), "only one is older than the limit");
        }
    }
}
