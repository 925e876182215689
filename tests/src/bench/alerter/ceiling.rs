//! The ceiling of reading the topic: one consumer decodes the same records and does nothing else.

use std::time::{Duration, Instant};

use anyhow::ensure;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::stack::world::World;

/// The longest that reading the topic may take.
const READ_WITHIN: Duration = Duration::from_secs(300);

/// The longest that one record may take.
const RECORD_WITHIN: Duration = Duration::from_secs(10);

/// Returns the readings a second, from the first reading to the last.
pub(super) async fn rate(world: &World, readings: usize) -> anyhow::Result<f64> {
    let mut client = ClientConfig::new();
    // The same settings as the services' consumers; the group is never joined.
    client
        .set("bootstrap.servers", &world.stack.kafka_brokers)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("queued.max.messages.kbytes", "32768")
        .set("fetch.wait.max.ms", "50")
        .set("fetch.queue.backoff.ms", "20");
    let mut assignment = TopicPartitionList::new();
    for partition in 0..world.partitions() {
        let start = Offset::Beginning;
        assignment.add_partition_offset(&world.readings_topic, partition as i32, start)?;
    }
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = client.create()?;
        consumer.assign(&assignment)?;
        read(&consumer, readings)
    })
    .await?
}

fn read(consumer: &BaseConsumer, readings: usize) -> anyhow::Result<f64> {
    let mut started = Instant::now();
    let deadline = started + READ_WITHIN;
    let mut signs = 0;
    for number in 0..readings {
        let Some(record) = consumer.poll(RECORD_WITHIN) else {
            anyhow::bail!("record {number} of {readings} does not come");
        };
        let record = record?;
        if number == 0 {
            started = Instant::now();
        }
        let reading = ljwx_reading::wire::decode(record.payload())?;
        signs += usize::from(reading.vitals().heart_rate.is_some());
        ensure!(Instant::now() < deadline, "{number} of {readings} read");
    }
    ensure!(signs == readings, "{signs} of {readings} have a heart rate");
    Ok((readings - 1) as f64 / started.elapsed().as_secs_f64())
}
