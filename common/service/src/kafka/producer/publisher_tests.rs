use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::message::OwnedHeaders;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::publisher::{
    ACK_STALL, KafkaState, OutgoingRecord, PublishError, Publisher, PublisherLimits,
};

const TOPIC: &str = "readings";

fn publisher(brokers: &str) -> Publisher {
    let limits = PublisherLimits {
        message_timeout: Duration::from_secs(6),
        ack_stall: ACK_STALL,
        linger: Duration::from_millis(5),
        queue_kbytes: 4,
        queue_records: 4,
        message_bytes_max: 2048,
    };
    let mut base = ClientConfig::new();
    base.set("bootstrap.servers", brokers);
    Publisher::new(base, &limits).unwrap()
}

fn record(value: &[u8]) -> OutgoingRecord<'_> {
    OutgoingRecord {
        topic: TOPIC,
        key: None,
        partition: None,
        value: Some(value.into()),
        headers: OwnedHeaders::new(),
        timestamp_ms: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_brokers_give_no_id_is_replaced_and_its_successor_publishes() {
    let brokers = MockCluster::new(1).unwrap();
    brokers.create_topic(TOPIC, 1, 1).unwrap();
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    brokers.request_errors(RDKafkaApiKey::InitProducerId, &[refusal]);
    let publisher = publisher(&brokers.bootstrap_servers());
    let kept = tokio::spawn(publisher.clone().keep_alive("renewals"));
    let confirmed = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            ticks.tick().await;
            if let Ok(pending) = publisher.enqueue(record(b"1"))
                && pending.confirmed().await.is_ok()
            {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), confirmed).await.unwrap();
    assert_eq!(publisher.state(), KafkaState::Flowing);
    assert!(!kept.is_finished(), "the producer is still looked after");
    kept.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_belong_together_are_enqueued_together_or_not_at_all() {
    // No broker listens there, so that nothing leaves the queue.
    let publisher = publisher("127.0.0.1:1");
    let all = |values: &[&'static [u8]]| {
        publisher.enqueue_all(values.iter().map(|value| record(value)).collect())
    };
    assert_eq!(all(&[&b"1"[..]; 5]).unwrap_err(), PublishError::NoPlace, "too many records");
    assert_eq!(all(&[&[b'1'; 1500][..]; 3]).unwrap_err(), PublishError::NoPlace, "too many bytes");
    let waiting = all(&[&b"1"[..]; 3]).unwrap();
    assert_eq!(all(&[&b"1"[..]; 2]).unwrap_err(), PublishError::NoPlace);
    assert_eq!(waiting.len() + all(&[b"1"]).unwrap().len(), 4, "the last place is free");
}
