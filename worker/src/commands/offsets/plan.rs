//! Computes the effect of a move of positions before anything is moved.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use ljwx_ledger::ledger::LedgerRow;
use ljwx_service::kafka::topic_reader::TopicWatermarks;

use super::args::MoveTarget;

/// The position of one partition, and its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionMove {
    pub partition: i32,
    /// The topic's first record.
    pub low: i64,
    /// The topic's end.
    pub high: i64,
    /// The row of the ledger; `None`: no worker has claimed the partition yet.
    pub entry: Option<LedgerRow>,
    /// The new position; `None`: the position stays.
    pub target: Option<i64>,
}

impl PartitionMove {
    /// Returns the position. A partition without a row starts at the topic's first record.
    pub fn position(&self) -> i64 {
        self.entry.map_or(self.low, |entry| entry.next_offset)
    }

    /// Returns whether the partition is to be moved and a member of the group may work on it. No
    /// member claims a partition whose position the topic does not have.
    pub fn is_worked_on(&self) -> bool {
        self.target.is_some() && (self.low..=self.high).contains(&self.position())
    }

    /// Returns the ledger's row after the move.
    pub fn moved(&self) -> Option<LedgerRow> {
        let start = LedgerRow {
            partition: self.partition,
            first_offset: self.low,
            next_offset: self.low,
            ..LedgerRow::default()
        };
        self.target.map(|target| self.entry.unwrap_or(start).moved_to(target))
    }

    /// Returns the number of skipped offsets.
    pub fn skipped(&self) -> i64 {
        self.target.map_or(0, |target| (target - self.position()).max(0))
    }

    /// Returns the number of reprocessed offsets.
    pub fn rewound(&self) -> i64 {
        self.target.map_or(0, |target| (self.position() - target).max(0))
    }
}

/// Plans the moves of the wanted partitions; of all if none is wanted. `at_time` holds the offsets
/// of a target in time.
pub fn plan(
    wanted: &[i32],
    target: Option<MoveTarget>,
    ledger: &BTreeMap<i32, LedgerRow>,
    ends: &TopicWatermarks,
    at_time: &BTreeMap<i32, i64>,
) -> anyhow::Result<Vec<PartitionMove>> {
    if let Some(partition) = wanted.iter().find(|partition| !ends.contains_key(partition)) {
        bail!("the topic has no partition {partition}");
    }
    let partitions = ends.iter().filter(|(p, _)| wanted.is_empty() || wanted.contains(p));
    partitions
        .map(|(partition, ends)| {
            let offset = match target {
                None => None,
                Some(MoveTarget::Offset(offset)) => Some(offset),
                Some(MoveTarget::Time(_)) => Some(*at_time.get(partition).context("no such time")?),
                Some(MoveTarget::End) => Some(ends.high),
                Some(MoveTarget::Start) => Some(ends.low),
            };
            if let Some(offset) = offset {
                ensure!(
                    (ends.low..=ends.high).contains(&offset),
                    "partition {partition} cannot go to {offset}: the topic has {} to {}",
                    ends.low,
                    ends.high
                );
            }
            let entry = ledger.get(partition).copied();
            let found = PartitionMove {
                partition: *partition,
                low: ends.low,
                high: ends.high,
                entry,
                target: None,
            };
            Ok(PartitionMove {
                target: offset.filter(|offset| *offset != found.position()),
                ..found
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use ljwx_service::kafka::topic_reader::Watermarks;

    use super::*;

    fn planned(target: Option<MoveTarget>) -> anyhow::Result<Vec<PartitionMove>> {
        let stored =
            LedgerRow { partition: 0, next_offset: 50, stored: 50, ..LedgerRow::default() };
        let gone = LedgerRow { partition: 1, next_offset: 5, merged: 5, ..LedgerRow::default() };
        let ends = Watermarks { low: 10, high: 80 };
        plan(
            &[],
            target,
            &[(0, stored), (1, gone)].into(),
            &[(0, ends), (1, ends), (2, ends)].into(),
            &[(0, 40), (1, 40), (2, 40)].into(),
        )
    }

    fn check(target: MoveTarget, expected: [(i64, i64); 3]) {
        let moves = planned(Some(target)).unwrap();
        let found: Vec<_> = moves.iter().map(|m| (m.skipped(), m.rewound())).collect();
        assert_eq!(found, expected, "{target:?}");
        for moved in moves.iter().filter_map(PartitionMove::moved) {
            assert_eq!(moved.difference(), 0, "{moved:?}");
        }
    }

    #[test]
    fn every_target_is_a_range_skipped_or_rewound() {
        check(MoveTarget::End, [(30, 0), (75, 0), (70, 0)]);
        check(MoveTarget::Start, [(0, 40), (5, 0), (0, 0)]);
        check(MoveTarget::Time(0), [(0, 10), (35, 0), (30, 0)]);
        check(MoveTarget::Offset(50), [(0, 0), (45, 0), (40, 0)]);
    }

    #[test]
    fn a_partition_outside_its_topic_is_worked_on_by_nobody() {
        let worked_on = |target| -> Vec<bool> {
            planned(target).unwrap().iter().map(PartitionMove::is_worked_on).collect()
        };
        assert_eq!(worked_on(Some(MoveTarget::End)), [true, false, true]);
        assert_eq!(worked_on(None), [false, false, false]);
    }

    #[test]
    fn nothing_goes_where_the_topic_is_not() {
        for offset in [-1, 9, 81] {
            assert!(planned(Some(MoveTarget::Offset(offset))).is_err(), "{offset}");
        }
        let shown = planned(None).unwrap();
        assert!(shown.iter().all(|shown| shown.target.is_none()), "{shown:?}");
    }
}
