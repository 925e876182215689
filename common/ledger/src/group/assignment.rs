//! The partitions that Kafka assigns to a member: which are claimed, when the others are claimed
//! again, and which are paused. Pure: time and chance are arguments.
//!
//! Leaves the ledger and the consumer to `claims`.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;

use crate::ledger::Claim;
use ljwx_service::backoff::Backoff;

/// First wait before a partition is claimed again.
const RECLAIM_FIRST: Duration = Duration::from_secs(1);

/// Longest wait before a partition is claimed again. Two processes may both believe that a partition
/// is theirs, until Kafka corrects one. They claim it in turn, ever less often.
const RECLAIM_MAX: Duration = Duration::from_secs(30);

/// Age of a claim from which its loss has a cause of its own: the waits begin again.
const CLAIM_STAYS: Duration = Duration::from_secs(60);

/// The reason why a claim failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClaimFailure {
    /// The position lies outside the topic, until an operator moves the position.
    #[error("{0}")]
    OutOfRange(String),
    /// The partition's leader does not answer.
    #[error("cannot read the ends of the partition: {0}")]
    NoLeader(KafkaError),
    /// A server does not answer, or refuses every claim.
    #[error("{0:#}")]
    Server(anyhow::Error),
}

impl ClaimFailure {
    /// Whether claims of other partitions wait, too. Each attempt delays a rebalance, and polling.
    pub(super) fn concerns_others(&self) -> bool {
        !matches!(self, Self::OutOfRange(_))
    }
}

/// A claim that the ledger has confirmed.
#[derive(Debug, Clone, Copy)]
struct Claimed {
    epoch: i64,
    /// Records below this offset are skipped.
    next: i64,
    /// The offset up to which the consumer has read. From `next` to it there is no record.
    read_to: i64,
    since: Instant,
}

#[derive(Debug)]
struct AssignedPartition {
    /// `None`: unclaimed.
    claimed: Option<Claimed>,
    /// When an unclaimed partition is claimed again.
    due: Instant,
    backoff: Backoff,
    /// The kind and the text of the last failed claim.
    failure: Option<(Discriminant<ClaimFailure>, String)>,
    /// Whether the consumer has paused the partition.
    paused: bool,
}

/// The assigned partitions.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    partitions: BTreeMap<i32, AssignedPartition>,
    /// The last epoch of each partition that was ever claimed. Deliveries of it may still wait.
    epochs: BTreeMap<i32, i64>,
    /// Partitions for which the pipeline has no room.
    held_back: BTreeSet<i32>,
    /// Whether the pipeline has room for no delivery at all.
    full: bool,
}

impl Assignment {
    /// Adds assigned partitions, which are not claimed yet.
    pub(super) fn add(&mut self, partitions: &[i32], now: Instant) {
        for partition in partitions {
            let added = AssignedPartition {
                claimed: None,
                due: now,
                backoff: Backoff::new(RECLAIM_FIRST, RECLAIM_MAX),
                failure: None,
                paused: false,
            };
            self.partitions.insert(*partition, added);
        }
    }

    /// Removes revoked partitions. Returns those that the consumer has paused.
    pub(super) fn remove(&mut self, gone: &[i32]) -> Vec<i32> {
        let mut removed: Vec<_> = Vec::new();
        for partition in gone {
            removed.extend(self.partitions.remove(partition).map(|was| (*partition, was.paused)));
        }
        removed.into_iter().filter(|(_, paused)| *paused).map(|(partition, _)| partition).collect()
    }

    /// Records a claim.
    pub(super) fn claimed(&mut self, claim: &Claim, now: Instant) {
        self.epochs.insert(claim.partition, claim.epoch);
        if let Some(assigned) = self.partitions.get_mut(&claim.partition) {
            let Claim { epoch, next_offset, .. } = *claim;
            let (next, read_to) = (next_offset, next_offset);
            assigned.claimed = Some(Claimed { epoch, next, read_to, since: now });
            assigned.failure = None;
        }
    }

    /// Returns the epoch of the last claim of a partition. 0 if it was never claimed.
    pub(super) fn last_epoch(&self, partition: i32) -> i64 {
        self.epochs.get(&partition).copied().unwrap_or_default()
    }

    /// Records a failed claim, and when the claim is tried again. Returns whether the failure is to
    /// be logged as a warning: the former failure was of another kind.
    pub(super) fn failed(
        &mut self,
        partition: i32,
        failure: &ClaimFailure,
        now: Instant,
        random: f64,
    ) -> bool {
        let Some(assigned) = self.partitions.get_mut(&partition) else { return false };
        let wait = match failure {
            // One attempt serves all partitions, so a server that is back is noticed soon.
            ClaimFailure::Server(_) => RECLAIM_FIRST,
            ClaimFailure::OutOfRange(_) | ClaimFailure::NoLeader(_) => {
                assigned.backoff.next(random)
            }
        };
        assigned.due = now + wait;
        let kind = discriminant(failure);
        let former = assigned.failure.replace((kind, failure.to_string()));
        former.is_none_or(|(former, _)| former != kind)
    }

    /// Ends the claim of this epoch: the partition is claimed again after a wait. Returns `false`
    /// if the partition is revoked, or is claimed under another epoch by now.
    pub(super) fn unclaim(
        &mut self,
        partition: i32,
        epoch: i64,
        now: Instant,
        random: f64,
    ) -> bool {
        let Some(assigned) = self.partitions.get_mut(&partition) else { return false };
        let Some(lost) = assigned.claimed.take_if(|claimed| claimed.epoch == epoch) else {
            return false;
        };
        if now.saturating_duration_since(lost.since) >= CLAIM_STAYS {
            assigned.backoff.reset();
        }
        assigned.due = now + assigned.backoff.next(random);
        true
    }

    /// Returns the partitions to claim now, the longest waiting first. Only paused ones: a claim
    /// takes effect when its partition is resumed.
    pub(super) fn due(&self, now: Instant) -> Vec<i32> {
        let unclaimed = self
            .partitions
            .iter()
            .filter(|(_, assigned)| assigned.claimed.is_none() && assigned.paused);
        let mut due: Vec<_> = unclaimed
            .map(|(partition, assigned)| (assigned.due, *partition))
            .filter(|(due, _)| *due <= now)
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, partition)| partition).collect()
    }

    /// Admits a record and returns its epoch. Returns `None` if the record's partition is not
    /// claimed or its offset is already processed.
    pub(super) fn admit(&mut self, partition: i32, offset: i64) -> Option<i64> {
        let claimed = self.partitions.get_mut(&partition)?.claimed.as_mut()?;
        if offset < claimed.next {
            return None;
        }
        claimed.next = offset + 1;
        Some(claimed.epoch)
    }

    /// Notes up to which of Kafka's offsets the consumer has read each partition. The position of a
    /// paused partition may be that of a former claim.
    pub(super) fn note_read(&mut self, positions: &[(i32, i64)], base: i64) {
        for (partition, offset) in positions {
            let assigned = self.partitions.get_mut(partition).filter(|assigned| !assigned.paused);
            if let Some(claimed) = assigned.and_then(|assigned| assigned.claimed.as_mut()) {
                claimed.read_to = offset + base;
            }
        }
    }

    /// Returns the end of a partition's records, given the end of its offsets. The last offsets may
    /// hold no record, such as transaction markers: only a consumer that has read them knows.
    pub(super) fn record_end(&self, partition: i32, end: i64) -> i64 {
        let claimed = self.partitions.get(&partition).and_then(|assigned| assigned.claimed);
        claimed.filter(|claimed| claimed.read_to >= end).map_or(end, |claimed| claimed.next)
    }

    /// Returns partition, epoch and next offset of each claim.
    pub(super) fn positions(&self) -> Vec<(i32, i64, i64)> {
        let position = |(partition, assigned): (&i32, &AssignedPartition)| {
            assigned.claimed.map(|claimed| (*partition, claimed.epoch, claimed.next))
        };
        self.partitions.iter().filter_map(position).collect()
    }

    /// Returns the reason of each failed claim that no later claim has made good.
    pub(super) fn unclaimed(&self) -> Vec<String> {
        let reason = |(partition, assigned): (&i32, &AssignedPartition)| {
            let (_, text) = assigned.failure.as_ref()?;
            Some(format!("partition {partition} is unclaimed: {text}"))
        };
        self.partitions.iter().filter_map(reason).collect()
    }

    /// Returns the numbers of claimed and of unclaimed partitions.
    pub(super) fn counts(&self) -> (usize, usize) {
        let claimed = self.partitions.values().filter(|assigned| assigned.claimed.is_some());
        let claimed = claimed.count();
        (claimed, self.partitions.len() - claimed)
    }

    /// Sets the partitions for which the pipeline has no room.
    pub(super) fn hold_back(&mut self, partitions: BTreeSet<i32>) {
        self.held_back = partitions;
    }

    /// Sets whether the pipeline has room for no delivery at all.
    pub(super) fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// Returns the partitions that the consumer still has to pause, or to resume.
    pub(super) fn to_change(&self, pause: bool) -> Vec<i32> {
        let changes = self.partitions.iter().filter(|(partition, assigned)| {
            let unwanted =
                self.full || assigned.claimed.is_none() || self.held_back.contains(partition);
            assigned.paused != pause && unwanted == pause
        });
        changes.map(|(partition, _)| *partition).collect()
    }

    /// Records that the consumer has paused or resumed these partitions.
    pub(super) fn changed(&mut self, partitions: &[i32], paused: bool) {
        for partition in partitions {
            if let Some(assigned) = self.partitions.get_mut(partition) {
                assigned.paused = paused;
            }
        }
    }
}

#[cfg(test)]
#[path = "assignment_tests.rs"]
mod tests;
