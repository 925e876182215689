use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde::Deserialize;

use super::acknowledgement::{AckLimits, Acknowledgements, KafkaState, Load};

const LIMITS: AckLimits = AckLimits { stall: Duration::from_secs(3), records: 10, bytes: 1000 };

#[derive(Deserialize)]
struct File {
    vectors: Vectors,
}

#[derive(Deserialize)]
struct Vectors {
    retry_after: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    waiting_records: u64,
    refused_records_10s: u64,
    acks_per_s: f64,
    stalled_ms: u64,
    random: f64,
    seconds: u64,
}

#[test]
fn a_refused_sender_waits_as_the_contract_says() {
    let file = include_str!("../../../../../tests/cases/gateway_cases.json");
    let vectors = serde_json::from_str::<File>(file).unwrap().vectors.retry_after;
    assert!(vectors.len() >= 8);
    for vector in vectors {
        let stalled = (vector.stalled_ms > 0).then(|| Duration::from_millis(vector.stalled_ms));
        let load = Load {
            waiting: vector.waiting_records,
            refused: vector.refused_records_10s,
            per_second: vector.acks_per_s,
            stalled,
        };
        assert_eq!(load.retry_after(vector.random), vector.seconds, "{load:?}");
    }
}

/// One event at a time, in seconds since the start.
#[derive(Debug, Clone, Copy)]
enum Event {
    Enqueued,
    Succeeded(u64),
    Failed(u64),
    BrokerUp,
}

/// Returns the second since which Kafka is stalled at `now`, after these events.
fn stalled(events: &[(u64, Event)], now: u64) -> Option<u64> {
    let start = Instant::now();
    let at = |second: u64| start + Duration::from_secs(second);
    let mut acks = Acknowledgements::new(LIMITS, start);
    for (second, event) in events {
        match *event {
            Event::Enqueued => {
                acks.take(1, 10, at(*second)).unwrap();
            }
            Event::Succeeded(number) => {
                acks.succeeded(at(*second));
                acks.give_back(number, 10);
            }
            Event::Failed(number) => {
                acks.failed(number, at(*second));
                acks.give_back(number, 10);
            }
            Event::BrokerUp => acks.broker_up(at(*second)),
        }
    }
    match acks.state(at(now)) {
        KafkaState::Stalled { since } => Some(since.duration_since(start).as_secs()),
        _ => None,
    }
}

#[test]
fn kafka_is_stalled_from_the_first_missing_acknowledgement_until_the_next_success() {
    use Event::{BrokerUp, Enqueued, Failed, Succeeded};
    for (what, events, now, expected) in [
        ("nothing is sent", &[(9, BrokerUp)][..], 10, None),
        ("a record is young", &[(9, Enqueued), (9, BrokerUp)], 11, None),
        ("a record has waited", &[(8, Enqueued), (11, BrokerUp)], 12, Some(11)),
        (
            "a later record was acknowledged, one of another partition waits",
            &[(8, Enqueued), (9, Enqueued), (10, Succeeded(1))],
            12,
            None,
        ),
        (
            "a record that came after the last success has waited",
            &[(7, Enqueued), (8, Enqueued), (8, Succeeded(1)), (8, Enqueued), (11, BrokerUp)],
            12,
            Some(11),
        ),
        ("a record failed", &[(8, Enqueued), (9, Failed(0)), (30, BrokerUp)], 31, Some(9)),
        (
            "a record waited and then failed",
            &[(8, Enqueued), (14, Failed(0)), (30, BrokerUp)],
            31,
            Some(11),
        ),
        (
            "a record failed that came before the last success",
            &[(7, Enqueued), (8, Enqueued), (9, Succeeded(1)), (10, Failed(0)), (11, BrokerUp)],
            12,
            None,
        ),
        (
            "a success ends a failure",
            &[(7, Enqueued), (8, Failed(0)), (9, Enqueued), (10, Succeeded(1)), (12, BrokerUp)],
            13,
            None,
        ),
        ("no broker is reachable", &[(5, BrokerUp)], 20, Some(8)),
        ("a broker is reachable again", &[(5, BrokerUp), (20, BrokerUp)], 20, None),
        (
            "a broker is reachable, but a record had failed",
            &[(5, BrokerUp), (6, Enqueued), (9, Failed(0)), (20, BrokerUp)],
            20,
            Some(9),
        ),
    ] {
        assert_eq!(stalled(events, now), expected, "{what}");
    }
}

#[test]
fn a_failed_producer_is_fatal_until_it_has_a_successor() {
    let start = Instant::now();
    let mut acks = Acknowledgements::new(LIMITS, start);
    let number = acks.take(1, 10, start).unwrap();
    acks.broken("no right".to_owned());
    acks.failed(number, start);
    acks.give_back(number, 10);
    assert_eq!(acks.state(start), KafkaState::Fatal { reason: "no right".to_owned() });
    assert_eq!(acks.retry_after(start, 0.0), 5);
    let later = start + Duration::from_secs(60);
    acks.renewed(later);
    assert_eq!(acks.state(later), KafkaState::Flowing);
}

#[test]
fn records_that_a_failed_producer_never_reported_leave_their_places_to_its_successor() {
    let start = Instant::now();
    let mut acks = Acknowledgements::new(LIMITS, start);
    let unreported = acks.take(LIMITS.records, LIMITS.bytes, start).unwrap();
    acks.broken("no right".to_owned());
    let later = start + Duration::from_secs(60);
    acks.renewed(later);
    assert_eq!((acks.state(later), acks.oldest(later)), (KafkaState::Flowing, Duration::ZERO));
    acks.give_back(unreported, 100);
    assert!(acks.take(LIMITS.records, LIMITS.bytes, later).is_some(), "every place is free");
    assert_eq!(acks.take(1, 1, later), None, "no place is free twice");
}

#[test]
fn senders_that_were_refused_are_expected_back() {
    let start = Instant::now();
    let at = |second: u64| start + Duration::from_secs(second);
    let mut acks = Acknowledgements::new(LIMITS, start);
    for _ in 0..20 {
        let number = acks.take(1, 10, at(1)).unwrap();
        acks.succeeded(at(1));
        acks.give_back(number, 10);
    }
    assert!(acks.take(0, 0, at(1)).is_some(), "a body may need no record");
    assert_eq!(acks.take(11, 10, at(2)), None);
    assert_eq!(acks.oldest(at(2)), Duration::ZERO);
    // 11 records at 2 a second.
    assert_eq!(acks.retry_after(at(2), 0.0), 6);
    acks.broker_up(at(30));
    assert_eq!(acks.retry_after(at(30), 0.0), 1, "they have come back long ago");
}

proptest! {
    /// Groups of records come, and single records are reported, in any order.
    #[test]
    fn a_group_has_all_its_places_or_none(
        steps in prop::collection::vec((1_usize..6, 1_usize..300, any::<prop::sample::Index>()), 1..60)
    ) {
        let now = Instant::now();
        let mut acks = Acknowledgements::new(LIMITS, now);
        let mut held: Vec<(u64, usize)> = Vec::new();
        for (records, bytes, reported) in steps {
            let used: usize = held.iter().map(|(_, bytes)| bytes).sum();
            let fits = held.len() + records <= LIMITS.records
                && used + records * bytes <= LIMITS.bytes;
            match acks.take(records, records * bytes, now) {
                Some(number) => {
                    prop_assert!(fits);
                    held.extend(vec![(number, bytes); records]);
                }
                None => prop_assert!(!fits),
            }
            if !held.is_empty() {
                let (number, bytes) = held.swap_remove(reported.index(held.len()));
                acks.give_back(number, bytes);
            }
        }
        for (number, bytes) in held.drain(..) {
            acks.give_back(number, bytes);
        }
        prop_assert!(acks.take(LIMITS.records, LIMITS.bytes, now).is_some(), "every place is back");
    }
}
