//! Publishes undecodable deliveries as dead letters, before their partition's evaluation goes on.
//!
//! ```text
//! deliveries ──▶ hold_back ───────────────────▶ evaluation ──▶ commit
//!                    │ undecodable, and behind      ▲
//!                    ▼                              │
//!                  Kafka ──▶ confirmed ──▶ release ─┘
//! ```
//!
//! So Kafka confirms a dead letter before the ledger passes its delivery. A partition waits for its
//! own dead letters only. Their number has no limit: alerts wait for no breaker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use futures_util::future::join_all;
use ljwx_ledger::group::dead_letter_topic::{DeadLetterReason, DeadLetterTopic, ErrorClass};
use ljwx_ledger::group::delivery::Delivery;
use tokio::task::{AbortHandle, JoinSet};
use tracing::warn;

/// Most dead letters of a partition that wait for their delivery reports at a time.
const IN_FLIGHT_MAX: usize = 64;

/// A claim of a partition: the partition and the epoch.
pub(super) type PartitionClaim = (i32, i64);

/// Why Kafka does not take dead letters, by partition. Clones share the reasons.
#[derive(Debug, Clone, Default)]
pub struct HeldDeadLetters(Arc<Mutex<BTreeMap<i32, String>>>);

impl HeldDeadLetters {
    /// Returns the reason of one partition. `None` if no partition waits.
    pub fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().next().cloned()
    }

    fn set(&self, partition: i32, reason: Option<String>) {
        let mut reasons = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match reason {
            Some(reason) => reasons.insert(partition, reason),
            None => reasons.remove(&partition),
        };
    }
}

/// Removes the reason of a partition when its task ends, also if the task is aborted.
struct HeldReason<'a> {
    reasons: &'a HeldDeadLetters,
    partition: i32,
}

impl Drop for HeldReason<'_> {
    fn drop(&mut self) {
        self.reasons.set(self.partition, None);
    }
}

/// Publishes the dead letters of the alerter's group.
#[derive(Clone)]
struct DeadLetterSender {
    topic: DeadLetterTopic,
    held: HeldDeadLetters,
}

impl DeadLetterSender {
    /// Publishes the undecodable ones among deliveries of one partition, until Kafka has confirmed
    /// them all.
    async fn publish_all(&self, partition: i32, deliveries: &[Delivery]) {
        let _reason = HeldReason { reasons: &self.held, partition };
        let letters: Vec<&Delivery> =
            deliveries.iter().filter(|delivery| delivery.reading.is_err()).collect();
        let Some((first, others)) = letters.split_first() else { return };
        // If Kafka takes none, only the first one is retried and logged.
        self.publish(first).await;
        for some in others.chunks(IN_FLIGHT_MAX) {
            join_all(some.iter().map(|delivery| self.publish(delivery))).await;
        }
        warn!(
            partition,
            dead_letters = letters.len(),
            first_offset = first.offset,
            last_offset = letters.last().map(|delivery| delivery.offset),
            "deliveries dead-lettered"
        );
    }

    async fn publish(&self, delivery: &Delivery) {
        let Err(undecodable) = &delivery.reading else { return };
        let message = undecodable.error.to_string();
        let reason = DeadLetterReason {
            class: ErrorClass::of(&undecodable.error),
            code: None,
            message: &message,
            batch_id: None,
        };
        let held = |reason| self.held.set(delivery.partition, reason);
        self.topic.publish(delivery, &undecodable.record, &reason, held).await;
    }
}

/// A partition whose dead letters are being published.
struct HeldPartition {
    publishing: AbortHandle,
    /// Deliveries that came after those that are being published.
    behind: Vec<Delivery>,
}

/// Holds back the deliveries of partitions that wait for Kafka to confirm their dead letters.
pub struct DeadLetters {
    sender: DeadLetterSender,
    /// Each task returns the deliveries whose dead letters it has published.
    publishing: JoinSet<(PartitionClaim, Vec<Delivery>)>,
    held: BTreeMap<PartitionClaim, HeldPartition>,
}

impl DeadLetters {
    /// Publishes to `topic`, and reports in `held` what Kafka does not take.
    pub fn new(topic: DeadLetterTopic, held: HeldDeadLetters) -> Self {
        let sender = DeadLetterSender { topic, held };
        Self { sender, publishing: JoinSet::new(), held: BTreeMap::new() }
    }

    /// Returns the deliveries that can be evaluated now. If one of a partition is undecodable,
    /// holds all of the partition back and starts to publish. `owns` decides which deliveries are
    /// of a present claim; only such ones are dead-lettered.
    pub(super) fn hold_back(
        &mut self,
        chunks: Vec<Vec<Delivery>>,
        owns: impl Fn(&Delivery) -> bool,
    ) -> Vec<Vec<Delivery>> {
        let mut undecodable = BTreeSet::new();
        for delivery in chunks.iter().flatten() {
            if delivery.reading.is_err() && owns(delivery) {
                undecodable.insert(claim_of(delivery));
            }
        }
        if undecodable.is_empty() && self.held.is_empty() {
            return chunks;
        }
        let mut free = Vec::new();
        let mut begun: BTreeMap<PartitionClaim, Vec<Delivery>> = BTreeMap::new();
        for delivery in chunks.into_iter().flatten() {
            let claim = claim_of(&delivery);
            if let Some(held) = self.held.get_mut(&claim) {
                held.behind.push(delivery);
            } else if undecodable.contains(&claim) {
                begun.entry(claim).or_default().push(delivery);
            } else {
                free.push(delivery);
            }
        }
        for (claim, deliveries) in begun {
            let sender = self.sender.clone();
            let publishing = self.publishing.spawn(async move {
                sender.publish_all(claim.0, &deliveries).await;
                (claim, deliveries)
            });
            self.held.insert(claim, HeldPartition { publishing, behind: Vec::new() });
        }
        vec![free]
    }

    /// Returns the partitions that must get no more deliveries: all that wait, once
    /// `deliveries_max` deliveries wait behind others. The other partitions go on.
    pub(super) fn full(&self, deliveries_max: usize) -> BTreeSet<i32> {
        let behind: usize = self.held.values().map(|held| held.behind.len()).sum();
        if behind < deliveries_max {
            return BTreeSet::new();
        }
        self.held.keys().map(|(partition, _)| *partition).collect()
    }

    /// Waits until the dead letters of a partition are confirmed, or for ever if none is published.
    /// Returns the deliveries that they were among. The future may be dropped and the call
    /// repeated.
    pub(super) async fn confirmed(&mut self) -> anyhow::Result<(PartitionClaim, Vec<Delivery>)> {
        loop {
            match self.publishing.join_next().await {
                Some(Ok(confirmed)) => return Ok(confirmed),
                // The partition was revoked.
                Some(Err(error)) if error.is_cancelled() => {}
                Some(Err(error)) => return Err(error).context("cannot publish dead letters"),
                None => return std::future::pending().await,
            }
        }
    }

    /// Ends the hold of a claim, and returns the deliveries behind the confirmed ones.
    pub(super) fn release(&mut self, claim: PartitionClaim) -> Vec<Delivery> {
        self.held.remove(&claim).map(|held| held.behind).unwrap_or_default()
    }

    /// Drops the deliveries of a revoked partition: its next owner reads them again.
    pub(super) fn forget(&mut self, partition: i32) {
        self.held.retain(|(held, _), waiting| {
            if *held == partition {
                waiting.publishing.abort();
            }
            *held != partition
        });
    }
}

fn claim_of(delivery: &Delivery) -> PartitionClaim {
    (delivery.partition, delivery.epoch)
}

#[cfg(test)]
#[path = "dead_letters_tests.rs"]
mod tests;
