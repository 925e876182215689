//! Publishes undecodable deliveries as dead letters, before their partition's evaluation goes on.
//! [`crate::pipeline::waiting_partitions`] draws the way of the deliveries.
//!
//! Kafka confirms a dead letter before the ledger passes its delivery. A partition waits for its
//! own dead letters only. Their number has no limit: alerts wait for no breaker.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use ljwx_ledger::group::dead_letter_topic::{DeadLetterReason, DeadLetterTopic, ErrorClass};
use ljwx_ledger::group::delivery::Delivery;
use tracing::warn;

use crate::pipeline::waiting_partitions::{
    Awaited, HoldReason, HoldReasons, PartitionClaim, WaitingPartitions, claim_of,
};

/// Most dead letters of a partition that wait for their delivery reports at a time.
const IN_FLIGHT_MAX: usize = 64;

/// Publishes the dead letters of the alerter's group.
#[derive(Clone)]
struct DeadLetterSender {
    topic: DeadLetterTopic,
    reasons: HoldReasons,
}

impl DeadLetterSender {
    /// Publishes the undecodable ones among deliveries of one partition, until Kafka has confirmed
    /// them all.
    async fn publish_all(&self, partition: i32, deliveries: &[Delivery]) {
        let held = self.reasons.of_task(Awaited::DeadLetters, partition);
        let letters: Vec<&Delivery> =
            deliveries.iter().filter(|delivery| delivery.reading.is_err()).collect();
        let Some((first, others)) = letters.split_first() else { return };
        // If Kafka takes none, only the first one is retried and logged.
        self.publish(first, &held).await;
        for some in others.chunks(IN_FLIGHT_MAX) {
            join_all(some.iter().map(|delivery| self.publish(delivery, &held))).await;
        }
        warn!(
            partition,
            dead_letters = letters.len(),
            first_offset = first.offset,
            last_offset = letters.last().map(|delivery| delivery.offset),
            "deliveries dead-lettered"
        );
    }

    async fn publish(&self, delivery: &Delivery, held: &HoldReason) {
        let Err(undecodable) = &delivery.reading else { return };
        let message = undecodable.error.to_string();
        let reason = DeadLetterReason {
            class: ErrorClass::of(&undecodable.error),
            code: None,
            message: &message,
            batch_id: None,
        };
        let held = |reason| held.set(reason);
        self.topic.publish(delivery, &undecodable.record, &reason, held).await;
    }
}

/// Holds back the deliveries of partitions that wait for Kafka to confirm their dead letters.
pub struct DeadLetters {
    sender: DeadLetterSender,
    /// Each task returns the deliveries whose dead letters it has published.
    pub(super) waiting: WaitingPartitions<Vec<Delivery>>,
}

impl DeadLetters {
    /// Publishes to `topic`, and reports in `reasons` why Kafka does not take a dead letter.
    pub fn new(topic: DeadLetterTopic, reasons: HoldReasons) -> Self {
        let sender = DeadLetterSender { topic, reasons };
        Self { sender, waiting: WaitingPartitions::new() }
    }

    /// Returns the deliveries that need not wait for dead letters. If one of a partition is
    /// undecodable, holds all of the partition back and starts to publish. `owns` decides which
    /// deliveries are of a present claim; only such ones are dead-lettered.
    pub(super) fn hold_back(
        &mut self,
        chunks: Vec<Vec<Delivery>>,
        owns: impl Fn(&Delivery) -> bool,
    ) -> Vec<Vec<Delivery>> {
        let chunks = self.waiting.hold_back(chunks);
        let undecodable: BTreeSet<PartitionClaim> = chunks
            .iter()
            .flatten()
            .filter(|delivery| delivery.reading.is_err() && owns(delivery))
            .map(claim_of)
            .collect();
        if undecodable.is_empty() {
            return chunks;
        }
        let mut free = Vec::new();
        let mut begun: BTreeMap<PartitionClaim, Vec<Delivery>> = BTreeMap::new();
        for delivery in chunks.into_iter().flatten() {
            let claim = claim_of(&delivery);
            if undecodable.contains(&claim) {
                begun.entry(claim).or_default().push(delivery);
            } else {
                free.push(delivery);
            }
        }
        for (claim, deliveries) in begun {
            let sender = self.sender.clone();
            self.waiting.begin(claim, async move {
                sender.publish_all(claim.0, &deliveries).await;
                deliveries
            });
        }
        vec![free]
    }
}

#[cfg(test)]
#[path = "dead_letters_tests.rs"]
mod tests;
