//! The worker on a topic that is full, in turn with its ceiling: Kafka → MySQL, Redis left alone.

use std::time::Duration;

use anyhow::Context;
use rdkafka::ClientConfig;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use tokio::time::Instant;

use super::ceiling;
use super::table::{Table, median};
use crate::verdict::wall_time;
use crate::wait::pass;
use crate::world::World;

/// Devices that the readings are of.
const DEVICES: usize = 1000;

/// The least share of the ceiling.
const RATIO_MIN: f64 = 0.5;

/// The plan's target for records.
const RECORDS_MIN: f64 = 2000.0;

/// The plan's target for batches.
const BATCHES_MIN: f64 = 50.0;

/// How often the ledger is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// One vitals-only reading.
pub(super) struct Sample {
    pub(super) device: String,
    pub(super) time: String,
    pub(super) epoch: i64,
    pub(super) heart_rate: usize,
}

/// Measures both in turn.
pub(super) async fn measure(
    rounds: usize,
    readings: usize,
    table: &mut Table,
) -> anyhow::Result<()> {
    println!("worker: {readings} vitals-only readings of {DEVICES} devices, Redis off");
    let (mut ratios, mut rates, mut batches, mut ceilings) = (vec![], vec![], vec![], vec![]);
    for round in 1..=rounds {
        let world = World::shared("bench").await?.with_partitions(12);
        let samples = samples(&world, readings);
        let ceiling = ceiling::measure(&samples).await?;
        let (rate, batch_rate) = run(&world, &samples).await?;
        world.finish().await?;
        println!(
            "  round {round}: ceiling {ceiling:.0} rows/s, worker {rate:.0} rows/s, {batch_rate:.0} batches/s"
        );
        ratios.push(rate / ceiling);
        rates.push(rate);
        batches.push(batch_rate);
        ceilings.push(ceiling);
    }
    table.at_least("worker, rows/s over the bare UPSERT", median(ratios), RATIO_MIN, "");
    table.at_least("worker, records/s at full load", median(rates), RECORDS_MIN, "/s");
    table.fact("worker's ceiling, rows/s", median(ceilings), "/s");
    table.at_least("worker, batches/s at full load", median(batches), BATCHES_MIN, "/s");
    Ok(())
}

fn samples(world: &World, readings: usize) -> Vec<Sample> {
    let first = jiff::Timestamp::now().as_second() - 3600;
    (0..readings)
        .map(|n| {
            let epoch = first + (n / DEVICES) as i64;
            Sample {
                device: world.device(n % DEVICES),
                time: wall_time(epoch),
                epoch,
                heart_rate: 60 + n % 50,
            }
        })
        .collect()
}

async fn run(world: &World, samples: &[Sample]) -> anyhow::Result<(f64, f64)> {
    world.migrate().await?;
    produce(world, samples)?;
    let worker = world.worker().env("NO_REDIS", "true").env("TRACE_SAMPLE_RATIO", "0").spawn()?;
    let done = || async { world.database.ledger(&world.worker_group).await.map(total) };
    let mut first = None;
    let deadline = Instant::now() + Duration::from_secs(300);
    let (rate, seconds) = loop {
        let (now, done) = (Instant::now(), done().await?);
        anyhow::ensure!(now < deadline, "the worker has done {done} of {}", samples.len());
        let (since, before) = *match &mut first {
            None if done == 0 => {
                pass(LOOK_INTERVAL).await;
                continue;
            }
            first => first.get_or_insert((now, done)),
        };
        if done >= samples.len() as i64 {
            let seconds = (now - since).as_secs_f64();
            break ((done - before) as f64 / seconds, seconds);
        }
        pass(LOOK_INTERVAL).await;
    };
    let batches = worker.metric("batches_total", "").await?;
    worker.terminate().await?;
    Ok((rate, batches / seconds))
}

fn total(ledger: Vec<crate::mysql::LedgerRow>) -> i64 {
    ledger.iter().map(|row| row.next_offset - row.first_offset).sum()
}

fn produce(world: &World, samples: &[Sample]) -> anyhow::Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", &world.stack.kafka_brokers)
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.messages", "1000000")
        .create()?;
    for sample in samples {
        let Sample { device, time, epoch, heart_rate } = sample;
        let value = format!(
            "{{\"device_sn\":\"{device}\",\"timestamp\":\"{time}\",\"epoch_ms\":{epoch}000,\
             \"received_at\":{epoch}500,\"customer_id\":1,\"org_id\":2,\"user_id\":3,\
             \"upload_method\":\"wifi\",\"heart_rate\":{heart_rate},\"blood_oxygen\":97,\
             \"temperature\":36.5,\"pressure_high\":125,\"pressure_low\":86,\"step\":1280,\
             \"distance\":820.0,\"calorie\":41230.0,\"latitude\":22.540368,\
             \"longitude\":114.01509,\"altitude\":0.0}}"
        );
        let record = BaseRecord::to(&world.readings_topic).key(device).payload(&value);
        producer.send(record).map_err(|(error, _)| error).context("cannot fill the topic")?;
    }
    Ok(producer.flush(Duration::from_secs(60))?)
}
