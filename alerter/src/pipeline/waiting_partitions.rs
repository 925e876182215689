//! Partitions that wait, each for a task of its own, and the deliveries behind. The other partitions
//! go on.
//!
//! ```text
//! deliveries ──▶ dead letters? ──▶ held batch? ──▶ evaluation ──▶ commit
//!                     │ behind          │ behind       ▲
//!                     ▼                 ▼              │
//!                   publish  ─────▶   write  ──────────┘
//! ```
//!
//! [`crate::pipeline::dead_letters`] publishes in such a task, and `writing` writes a held batch.

use std::collections::{BTreeMap, BTreeSet};
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use ljwx_ledger::group::delivery::{Delivery, DeliveryLoad};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDrop;

/// A claim of a partition: the partition and the epoch.
pub(super) type PartitionClaim = (i32, i64);

/// Returns the claim under which a delivery was read.
pub(super) fn claim_of(delivery: &Delivery) -> PartitionClaim {
    (delivery.partition, delivery.epoch)
}

/// What a partition waits for. It may wait for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Awaited {
    DeadLetters,
    HeldBatch,
}

/// Why a server does not take what partitions wait for. Clones share the reasons.
#[derive(Debug, Clone, Default)]
pub struct HoldReasons(Arc<Mutex<BTreeMap<(Awaited, i32), String>>>);

impl HoldReasons {
    /// Returns the reason of one partition. `None` if every server takes all.
    pub fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().next().cloned()
    }

    /// Returns the place for the reason of a partition's task.
    pub(super) fn of_task(&self, awaited: Awaited, partition: i32) -> HoldReason {
        HoldReason { reasons: self.clone(), awaited, partition }
    }
}

/// The reason of a partition. The drop removes the reason, also if the task is aborted.
#[derive(Debug)]
pub(super) struct HoldReason {
    reasons: HoldReasons,
    awaited: Awaited,
    pub(super) partition: i32,
}

impl HoldReason {
    /// Sets the reason, or removes it.
    pub(super) fn set(&self, reason: Option<String>) {
        let mut reasons = self.reasons.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (self.awaited, self.partition);
        match reason {
            Some(reason) => reasons.insert(key, reason),
            None => reasons.remove(&key),
        };
    }
}

impl Drop for HoldReason {
    fn drop(&mut self) {
        self.set(None);
    }
}

/// A partition that waits for a task.
struct WaitingPartition {
    /// The drop aborts the task.
    _task: AbortOnDrop,
    /// Deliveries that came after the task had begun.
    behind: Vec<Delivery>,
    /// The load of `behind`.
    load: DeliveryLoad,
}

/// Partitions that wait, each for a task that returns a `T`.
pub(super) struct WaitingPartitions<T> {
    tasks: JoinSet<(PartitionClaim, T)>,
    waiting: BTreeMap<PartitionClaim, WaitingPartition>,
}

impl<T: Send + 'static> WaitingPartitions<T> {
    /// No partition waits.
    pub(super) fn new() -> Self {
        Self { tasks: JoinSet::new(), waiting: BTreeMap::new() }
    }

    /// Begins a task, for which the deliveries of the claim wait from now on.
    pub(super) fn begin(
        &mut self,
        claim: PartitionClaim,
        task: impl Future<Output = T> + Send + 'static,
    ) {
        let _task = AbortOnDrop::new(self.tasks.spawn(async move { (claim, task.await) }));
        let load = DeliveryLoad::default();
        self.waiting.insert(claim, WaitingPartition { _task, behind: Vec::new(), load });
    }

    /// Whether no partition waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether the deliveries of this claim wait.
    pub(super) fn waits(&self, claim: PartitionClaim) -> bool {
        self.waiting.contains_key(&claim)
    }

    /// Keeps the deliveries that have to wait, and returns the others.
    pub(super) fn hold_back(&mut self, chunks: Vec<Vec<Delivery>>) -> Vec<Vec<Delivery>> {
        if self.is_empty() {
            return chunks;
        }
        let mut free = Vec::new();
        for delivery in chunks.into_iter().flatten() {
            match self.waiting.get_mut(&claim_of(&delivery)) {
                Some(waiting) => {
                    waiting.load = waiting.load + DeliveryLoad::of(slice::from_ref(&delivery));
                    waiting.behind.push(delivery);
                }
                None => free.push(delivery),
            }
        }
        vec![free]
    }

    /// Returns the partitions that must get no more deliveries: all that wait, once the deliveries
    /// behind them fill `room`. The other partitions go on.
    pub(super) fn full(&self, room: DeliveryLoad) -> BTreeSet<i32> {
        let behind: DeliveryLoad = self.waiting.values().map(|waiting| waiting.load).sum();
        let waiting = self.waiting.keys().filter(|_| behind.reaches(room));
        waiting.map(|(partition, _)| *partition).collect()
    }

    /// Waits until the task of a partition has ended, or for ever if no partition waits. The future
    /// may be dropped and the call repeated.
    pub(super) async fn ended(&mut self) -> anyhow::Result<(PartitionClaim, T)> {
        loop {
            match self.tasks.join_next().await {
                Some(Ok((claim, done))) if self.waits(claim) => return Ok((claim, done)),
                // The partition was revoked.
                Some(Ok(_)) => {}
                Some(Err(error)) if error.is_cancelled() => {}
                Some(Err(error)) => return Err(error).context("the task of a partition panicked"),
                None => return std::future::pending().await,
            }
        }
    }

    /// Ends the wait of a claim, and returns the deliveries behind.
    pub(super) fn release(&mut self, claim: PartitionClaim) -> Vec<Delivery> {
        self.waiting.remove(&claim).map(|waiting| waiting.behind).unwrap_or_default()
    }

    /// Aborts the task of a revoked partition, and drops the deliveries behind: its next owner reads
    /// them again.
    pub(super) fn forget(&mut self, partition: i32) {
        self.waiting.retain(|(held, _), _| *held != partition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_ends_with_its_task() {
        let reasons = HoldReasons::default();
        let of_task = reasons.of_task(Awaited::DeadLetters, 3);
        of_task.set(Some("dead letter 3/1: no such topic".into()));
        assert_eq!(reasons.reason().as_deref(), Some("dead letter 3/1: no such topic"));
        drop(of_task);
        assert_eq!(reasons.reason(), None);
    }

    #[tokio::test]
    async fn a_task_of_a_revoked_partition_ends_without_a_result() {
        let mut waiting = WaitingPartitions::new();
        waiting.begin((1, 5), std::future::ready("revoked"));
        waiting.begin((2, 5), std::future::ready("done"));
        waiting.forget(1);
        assert_eq!(waiting.ended().await.unwrap(), ((2, 5), "done"));
        assert!(waiting.waits((2, 5)) && !waiting.waits((1, 5)));
        waiting.release((2, 5));
        assert!(waiting.is_empty());
    }
}
