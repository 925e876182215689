//! The metric that KEDA's scaler of type `kafka` gives the autoscaler; pure. Reading the offsets
//! belongs to [`super::offsets`].

use std::collections::BTreeMap;

use super::policy::MetricRule;

/// A partition's end, and the offset that the group has committed to Kafka.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartitionOffsets {
    pub(super) partition: i32,
    pub(super) end: i64,
    pub(super) committed: Option<i64>,
}

impl PartitionOffsets {
    /// Returns the records that wait. If the group has committed nothing, all of the partition's
    /// offsets count, as with KEDA's `offsetResetPolicy: earliest`.
    pub(super) fn lag(&self) -> u64 {
        (self.end - self.committed.unwrap_or(0)).max(0) as u64
    }
}

/// The metric, and the offsets of the observation before.
#[derive(Debug)]
pub(super) struct LagMetric {
    rule: MetricRule,
    before: BTreeMap<i32, i64>,
}

impl LagMetric {
    pub(super) fn new(rule: MetricRule) -> Self {
        Self { rule, before: BTreeMap::new() }
    }

    /// Returns the metric of an observation: the lag of all partitions together. KEDA 2.16 caps the
    /// sum (`getTotalLag`) at the threshold times the number of partitions, or of partitions with
    /// lag.
    pub(super) fn observe(&mut self, partitions: &[PartitionOffsets]) -> u64 {
        let lags: Vec<u64> = partitions.iter().map(|partition| self.counted(partition)).collect();
        let MetricRule { threshold, limit_to_partitions_with_lag, .. } = self.rule;
        let needing = |lag: &&u64| !limit_to_partitions_with_lag || **lag > 0;
        let most = lags.iter().filter(needing).count() as u64;
        let total = lags.iter().sum::<u64>();
        if total / threshold > most { most * threshold } else { total }
    }

    /// Returns the lag of a partition that counts. With `excludePersistentLag`, KEDA 2.16 takes the
    /// lag of a partition whose committed offset is that of the observation before for 0
    /// (`getLagForPartition`).
    fn counted(&mut self, partition: &PartitionOffsets) -> u64 {
        let Some(committed) = partition.committed else { return partition.lag() };
        let before = self.before.insert(partition.partition, committed);
        let stands = before == Some(committed);
        if self.rule.exclude_persistent_lag && stands { 0 } else { partition.lag() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scaling::policy::ScalingPolicy;

    /// Returns the offsets of partitions from their ends and committed offsets.
    fn offsets(pairs: &[(i64, Option<i64>)]) -> Vec<PartitionOffsets> {
        let numbered = pairs.iter().enumerate();
        numbered
            .map(|(partition, (end, committed))| PartitionOffsets {
                partition: partition as i32,
                end: *end,
                committed: *committed,
            })
            .collect()
    }

    fn rule(limited: bool, excluded: bool) -> MetricRule {
        let mut rule = ScalingPolicy::of_manifest().unwrap().metric;
        rule.threshold = 100;
        rule.limit_to_partitions_with_lag = limited;
        rule.exclude_persistent_lag = excluded;
        rule
    }

    #[test]
    fn the_metric_is_the_lag_capped_by_the_partitions() {
        for (limited, pairs, expected) in [
            (true, vec![(50, Some(20)), (10, Some(10))], 30),
            // Without a commit everything waits.
            (true, vec![(70, None), (10, Some(10))], 70),
            (true, vec![(900, Some(0)), (10, Some(10))], 100),
            (false, vec![(900, Some(0)), (10, Some(10))], 200),
            // The cap begins at a whole threshold more, as KEDA divides whole numbers.
            (true, vec![(199, Some(0)), (10, Some(10))], 199),
        ] {
            let metric = LagMetric::new(rule(limited, true)).observe(&offsets(&pairs));
            assert_eq!(metric, expected, "{limited} {pairs:?}");
        }
    }

    #[test]
    fn a_partition_that_does_not_move_counts_for_nothing() {
        let first = offsets(&[(40, Some(10)), (40, Some(20))]);
        let second = offsets(&[(60, Some(10)), (60, Some(30))]);
        for (excluded, expected) in [(true, 30), (false, 80)] {
            let mut metric = LagMetric::new(rule(true, excluded));
            assert_eq!(metric.observe(&first), 50);
            assert_eq!(metric.observe(&second), expected, "{excluded}");
        }
    }
}
