//! Publishes undecodable deliveries as dead letters, before their partition's evaluation goes on.
//! [`crate::pipeline::waiting_partitions`] draws the way of the deliveries.
//!
//! Kafka confirms a dead letter before the ledger passes its delivery. A partition waits for its
//! own dead letters only. Their number has no limit: alerts wait for no breaker.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use ljwx_ledger::group::dead_letter_topic::{DeadLetterReason, DeadLetterTopic, ErrorClass};
use ljwx_ledger::group::delivery::Delivery;
use tracing::warn;

use crate::pipeline::waiting_partitions::{
    Awaited, HoldReason, HoldReasons, PartitionClaim, WaitingPartitions, claim_of,
};

/// Most dead letters of a partition that wait for their delivery reports at a time.
const IN_FLIGHT_MAX: usize = 64;

/// Publishes the undecodable ones among deliveries of one partition, until Kafka has confirmed them
/// all.
async fn publish_all(topic: &DeadLetterTopic, held: &HoldReason, deliveries: &[Delivery]) {
    let letters: Vec<&Delivery> =
        deliveries.iter().filter(|delivery| delivery.reading.is_err()).collect();
    let Some((first, others)) = letters.split_first() else { return };
    // If Kafka takes none, only the first one is retried and logged.
    publish(topic, held, first).await;
    for some in others.chunks(IN_FLIGHT_MAX) {
        join_all(some.iter().map(|delivery| publish(topic, held, delivery))).await;
    }
    warn!(
        partition = held.partition,
        dead_letters = letters.len(),
        first_offset = first.offset,
        last_offset = letters.last().map(|delivery| delivery.offset),
        "deliveries dead-lettered"
    );
}

async fn publish(topic: &DeadLetterTopic, held: &HoldReason, delivery: &Delivery) {
    let Err(undecodable) = &delivery.reading else { return };
    let message = undecodable.error.to_string();
    let reason = DeadLetterReason {
        class: ErrorClass::of(&undecodable.error),
        code: None,
        message: &message,
        batch_id: None,
    };
    topic.publish(delivery, &undecodable.record, &reason, |reason| held.set(reason)).await;
}

/// Holds back the deliveries of partitions that wait for Kafka to confirm their dead letters.
pub struct DeadLetters {
    topic: DeadLetterTopic,
    reasons: HoldReasons,
    /// Each task returns the deliveries whose dead letters it has published.
    pub(super) waiting: WaitingPartitions<Vec<Delivery>>,
}

impl DeadLetters {
    /// Publishes to `topic`, and reports in `reasons` why Kafka does not take a dead letter.
    pub fn new(topic: DeadLetterTopic, reasons: HoldReasons) -> Self {
        Self { topic, reasons, waiting: WaitingPartitions::new() }
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
        let deliveries = chunks.iter().flatten();
        let undecodable = deliveries.filter(|delivery| delivery.reading.is_err() && owns(delivery));
        let mut begun: BTreeMap<PartitionClaim, Vec<Delivery>> =
            undecodable.map(|delivery| (claim_of(delivery), Vec::new())).collect();
        if begun.is_empty() {
            return chunks;
        }
        let mut free = Vec::new();
        for delivery in chunks.into_iter().flatten() {
            begun.get_mut(&claim_of(&delivery)).unwrap_or(&mut free).push(delivery);
        }
        for (claim, deliveries) in begun {
            let topic = self.topic.clone();
            let held = self.reasons.of_task(Awaited::DeadLetters, claim.0);
            self.waiting.begin(claim, async move {
                publish_all(&topic, &held, &deliveries).await;
                deliveries
            });
        }
        vec![free]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser;
    use ljwx_ledger::group::delivery::{DeliveryLoad, RawRecord, Undecodable};
    use ljwx_reading::wire::DecodeError;
    use ljwx_service::kafka::KafkaArgs;
    use ljwx_service::kafka::record_trace::RecordTrace;

    use super::*;
    use crate::test_support::heart_rate;

    /// The epoch of the present claims.
    const EPOCH: i64 = 2;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        kafka: KafkaArgs,
    }

    /// Returns dead letters that Kafka never confirms, because no broker is there.
    fn unconfirmed() -> DeadLetters {
        let arguments = Arguments::parse_from(["test", "--kafka-brokers", "127.0.0.1:1"]);
        let topic = DeadLetterTopic::connect(&arguments.kafka, "test", "alerter").unwrap();
        DeadLetters::new(topic, HoldReasons::default())
    }

    fn delivery(partition: i32, offset: i64, is_reading: bool) -> Delivery {
        let tombstone =
            || Undecodable { error: DecodeError::Tombstone, record: RawRecord::default() };
        Delivery {
            partition,
            offset,
            epoch: EPOCH,
            kafka_ms: 0,
            origin: RecordTrace::default(),
            replay: None,
            reading: if is_reading { Ok(heart_rate(0, 80)) } else { Err(tombstone()) },
            record_bytes: 0,
        }
    }

    /// Returns the partitions and offsets that can be evaluated now.
    fn free(letters: &mut DeadLetters, deliveries: Vec<Delivery>) -> Vec<(i32, i64)> {
        let free = letters.hold_back(vec![deliveries], |delivery| delivery.epoch == EPOCH);
        free.iter().flatten().map(|delivery| (delivery.partition, delivery.offset)).collect()
    }

    #[tokio::test]
    async fn a_partition_waits_for_its_own_dead_letters_and_keeps_its_order() {
        let mut letters = unconfirmed();
        let mixed = vec![
            delivery(1, 5, true),
            delivery(2, 7, true),
            delivery(1, 6, false),
            delivery(1, 7, true),
        ];
        assert_eq!(free(&mut letters, mixed), [(2, 7)]);
        let later = vec![delivery(1, 8, true), delivery(2, 8, true), delivery(1, 9, false)];
        assert_eq!(free(&mut letters, later), [(2, 8)]);
        let two = 2 * delivery(1, 8, true).memory_bytes();
        for (deliveries, bytes, full) in
            [(3, two + 1, &[] as &[i32]), (2, two + 1, &[1]), (3, two, &[1]), (2, two, &[1])]
        {
            let held_back = letters.waiting.full(DeliveryLoad { deliveries, bytes });
            let expected: BTreeSet<i32> = full.iter().copied().collect();
            assert_eq!(held_back, expected, "{deliveries} deliveries, {bytes} bytes");
        }
        let behind = letters.waiting.release((1, EPOCH));
        assert_eq!(behind.iter().map(|delivery| delivery.offset).collect::<Vec<_>>(), [8, 9]);
        assert!(free(&mut letters, behind).is_empty(), "another dead letter waits");
    }

    #[tokio::test]
    async fn a_revoked_partition_leaves_nothing_behind_and_a_former_claim_dead_letters_nothing() {
        let mut letters = unconfirmed();
        assert!(free(&mut letters, vec![delivery(1, 5, false), delivery(1, 6, true)]).is_empty());
        letters.waiting.forget(1);
        assert_eq!(letters.waiting.release((1, EPOCH)).len(), 0);
        let former = Delivery { epoch: EPOCH - 1, ..delivery(1, 4, false) };
        assert_eq!(free(&mut letters, vec![former, delivery(1, 5, true)]), [(1, 4), (1, 5)]);
    }
}
