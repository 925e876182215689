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
    let tombstone = || Undecodable { error: DecodeError::Tombstone, record: RawRecord::default() };
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
