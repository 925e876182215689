use std::time::Duration;

use futures_util::FutureExt;
use jiff::tz::TimeZone;
use ljwx_ledger::group::delivery::Undecodable;
use ljwx_ledger::group::settings::GroupProtocol;
use ljwx_ledger::ledger::{GroupKind, Ledger};
use ljwx_ledger::mysql::MySqlArgs;
use ljwx_reading::wire::DecodeError;
use ljwx_service::kafka::KafkaArgs;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;

use super::*;
use crate::batch::FlushReason;
use crate::batch::test_support::delivery;
use crate::dead_letter::breaker::BreakerLimits;

const LETTERS: i64 = 3;

/// Longest wait for the brokers.
const SOON: Duration = Duration::from_secs(30);

/// Returns a batch of deliveries that cannot be decoded.
fn batch() -> Batch {
    let mut segment = Segment::new(0, 1, 0);
    for offset in 0..LETTERS {
        let record = RawRecord { value: Some(b"x".to_vec()), ..RawRecord::default() };
        let reading = Err(Undecodable { error: DecodeError::Field("step"), record });
        segment.push(Delivery { reading, ..delivery(0, offset, "a", 0, 80) }, None);
    }
    Batch { id: "batch".into(), reason: FlushReason::Rows, segments: vec![segment] }
}

/// Returns a sender to `topic`. It never uses MySQL: undecodable deliveries keep their records.
fn sender(kafka: &KafkaArgs, topic: DeadLetterTopic) -> DeadLetterSender {
    let mysql = MySqlArgs {
        url: "mysql://u@127.0.0.1:1/d".into(),
        pool_size: 2,
        acquire_timeout: SOON,
        statement_timeout: SOON,
    };
    let pool = mysql.connect(&TimeZone::UTC).unwrap();
    let (group, readings) = ("worker", kafka.readings_topic.as_str());
    let ledger = Ledger::new(pool, GroupKind::Worker, group, readings, "owner".into());
    let records = RecordSource::new(kafka.client_config("records"), readings, group, ledger);
    let limits = BreakerLimits { ratio_max: 1.0, consecutive_max: 1000 };
    let health = Health::new(GroupProtocol::Classic);
    DeadLetterSender::new(topic, records, DeadLetterBreaker::new(limits), health)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_dead_letter_of_a_batch_waits_for_the_confirmation_of_another() {
    let brokers = MockCluster::new(1).unwrap();
    let kafka = KafkaArgs {
        brokers: brokers.bootstrap_servers(),
        readings_topic: "readings".into(),
        rejects_topic: "rejects".into(),
        set: Vec::new(),
        require_safe_topics: false,
        development: true,
    };
    let topic = DeadLetterTopic::connect(&kafka, "letters", "worker").unwrap();
    brokers.create_topic(topic.name(), 1, 1).unwrap();
    let sender = sender(&kafka, topic.clone());
    let mut batch = batch();
    // The only poll hands over what waits for no confirmation. Nothing learns of confirmations.
    assert_eq!(sender.send(&mut batch).now_or_never(), None);
    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.brokers)
        .set("group.id", "reader")
        .create()
        .unwrap();
    let all_there = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            ticks.tick().await;
            let ends = reader.fetch_watermarks(topic.name(), 0, SOON);
            if ends.is_ok_and(|ends| ends == (0, LETTERS)) {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, all_there).await.unwrap();
}
