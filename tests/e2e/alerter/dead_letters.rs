//! Dead letters of the alerter: records that are no readings are kept, and delay no other alert.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::clients::kafka::{self, Record};
use ljwx_tests::fakes::platform::{self, HEART_RATE_HIGH};
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;

use crate::support::{alerting, delivered, evaluated, finish, measure, seeded};

/// The longest that a step may take.
const SOON: Duration = Duration::from_secs(60);

/// The key of records that no gateway would publish.
const KEY: &[u8] = b"key";

/// A value that is no reading.
const NO_READING: &[u8] = b"not json";

/// Returns the time of the newest reading in seconds: five minutes ago.
fn at() -> i64 {
    jiff::Timestamp::now().as_second() - 300
}

/// The name of the alerters' dead-letter topic.
fn letters_topic(world: &World) -> String {
    format!("{}.{}.dlq", world.readings_topic, world.alerter_group)
}

async fn letters(world: &World) -> Result<Vec<Record>> {
    kafka::records(&world.stack.kafka_brokers, &letters_topic(world)).await
}

/// Puts a record that no gateway would publish into a partition.
async fn put(world: &World, partition: i32, value: Option<&[u8]>) -> Result<()> {
    let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
    let headers = [("schema", "reading.v1".to_owned())];
    kafka::produce_record(brokers, topic, partition, Some(KEY), value, &headers).await
}

/// Runs `worker dlq` for the alerters' group.
async fn dlq(world: &World, arguments: &[&str]) -> Result<String> {
    let group: [&str; 3] = ["dlq", "--group", &world.alerter_group];
    let done = world.launch("worker", &[&group, arguments].concat()).finish().await?;
    ensure!(done.code == Some(0), "worker dlq {arguments:?}: {:?}\n{}", done.code, done.text);
    Ok(done.text)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_reading_is_kept_and_the_alerts_around_it_are_sent() -> Result<()> {
    let (world, wechat) = seeded("strangers").await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    let (device, end_at) = (world.device(1), at());
    let partitions = i32::try_from(world.partitions())?;
    measure(&gateway, &device, end_at - 15, &[130, 131]).await?;
    for partition in 0..partitions {
        put(&world, partition, Some(NO_READING)).await?;
        put(&world, partition, None).await?;
    }
    measure(&gateway, &device, end_at, &[132]).await?;
    delivered(&wechat, 1).await?;
    evaluated(&world).await?;

    let count = world.partitions();
    let kept = letters(&world).await?;
    ensure!(kept.len() == 2 * count, "{} letters", kept.len());
    for letter in &kept {
        let class = if letter.is_tombstone { "tombstone" } else { "undecodable" };
        let value: &[u8] = if letter.is_tombstone { b"" } else { NO_READING };
        ensure!(letter.value == value && letter.key.as_deref() == Some(KEY), "{letter:?}");
        for (name, expected) in [
            ("schema", "reading.v1"),
            ("dlq.error.class", class),
            ("dlq.consumer.group", &world.alerter_group),
            ("dlq.source.topic", &world.readings_topic),
            ("dlq.source.partition", &letter.partition.to_string()),
        ] {
            ensure!(letter.header(name).as_deref() == Some(expected), "{name}: {letter:?}");
        }
    }
    let tombstones = kept.iter().filter(|letter| letter.is_tombstone).count();
    ensure!(tombstones == count, "{tombstones} tombstones");
    for (name, labels) in [
        ("dead_letters_total", "class=\"tombstone\""),
        ("dead_letters_total", "class=\"undecodable\""),
    ] {
        ensure!(alerter.metric(name, labels).await? == count as f64, "{name} {labels}");
    }
    let ledger = world.database.ledger(&world.alerter_group).await?;
    ensure!(ledger.iter().all(|row| row.balances() && row.dead_lettered == 0), "{ledger:?}");

    let listed = dlq(&world, &["list"]).await?;
    ensure!(listed.contains(&format!("{} record(s)", 2 * count)), "{listed}");
    let replayed = dlq(&world, &["--class", "tombstone", "replay"]).await?;
    ensure!(replayed.contains(&format!("{count} reading(s) sent")), "{replayed}");
    evaluated(&world).await?;
    // They are no readings now either, so they come back with the place of their first record.
    let kept = letters(&world).await?;
    let back = kept.iter().filter(|letter| letter.header("replay.offset").is_some());
    let back: Vec<_> = back.collect();
    ensure!(kept.len() == 3 * count && back.len() == count, "{kept:?}");
    ensure!(back.iter().all(|letter| letter.is_tombstone), "{back:?}");
    ensure!(wechat.delivered() == 1, "{:?}", wechat.messages());
    finish(world, [gateway, alerter]).await
}

/// Returns the numbers of two devices whose readings are in different partitions, and the partition
/// of the first one.
pub(super) async fn two_devices(world: &World, gateway: &Service) -> Result<(usize, usize, i32)> {
    const CANDIDATES: usize = 12;
    for number in 1..=CANDIDATES {
        measure(gateway, &world.device(number), at() - 600, &[70]).await?;
    }
    let sent = kafka::records(&world.stack.kafka_brokers, &world.readings_topic).await?;
    let partition = |number: usize| {
        let device = world.device(number);
        let of_device = |record: &&Record| record.key.as_deref() == Some(device.as_bytes());
        sent.iter().find(of_device).map(|record| record.partition)
    };
    let first = partition(1).context("the first device's reading")?;
    let other = (2..=CANDIDATES).find(|number| partition(*number) != Some(first));
    Ok((1, other.context("all devices are in one partition")?, first))
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_topic_for_its_dead_letter_a_partition_waits_alone_until_there_is_one()
-> Result<()> {
    let world = World::shared("homeless").await?;
    // Creates the topic of another alerter group.
    let other = world.launch("worker", &["migrate"]).env("ALERTER_GROUP", "other");
    let migrated = other.finish().await?;
    ensure!(migrated.code == Some(0), "{}", migrated.text);
    world.grant().await?;
    platform::seed(&world, &[HEART_RATE_HIGH]).await?;
    let wechat = FakeWechat::start().await?;
    // By default, a producer waits half a minute for an unknown topic to appear.
    let alerter = world.alerter(&wechat).env("KAFKA_SET", "topic.metadata.propagation.max.ms=1000");
    let (gateway, alerter) = tokio::try_join!(world.gateway().start(), alerter.start())?;
    let (held, free, partition) = two_devices(&world, &gateway).await?;
    put(&world, partition, Some(NO_READING)).await?;
    eventually(SOON, "the probe names the dead letter", || async {
        let answer = http::get(&alerter.admin("/readyz")).await?;
        let named = answer.text.contains(&format!("held: dead letter {partition}/"));
        Ok((answer.status == 503 && named).then_some(()))
    })
    .await?;
    ensure!(http::get(&alerter.admin("/livez")).await?.status == 200, "it stays alive");
    for number in [held, free] {
        measure(&gateway, &world.device(number), at(), &[130, 131, 132]).await?;
    }
    delivered(&wechat, 1).await?;
    let text = wechat.messages()[0].text();
    ensure!(text.contains(&world.device(free)), "{text}");

    world.migrate().await?;
    delivered(&wechat, 2).await?;
    evaluated(&world).await?;
    let text = wechat.messages()[1].text();
    ensure!(text.contains(&world.device(held)), "{text}");
    let kept = letters(&world).await?;
    ensure!(kept.len() == 1 && kept[0].value == NO_READING, "{kept:?}");
    ensure!(http::get(&alerter.admin("/readyz")).await?.status == 200, "it is ready again");
    finish(world, [gateway, alerter]).await
}
