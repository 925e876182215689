//! A gateway publishes only to topics that keep what they acknowledge.

use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::clients::{http, kafka};
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::json;

use crate::support::{finish, readyz, world};

const DEVICES: &str = "/upload_health_data";

/// The longest that a gateway may take to see a setting. It checks every minute.
const SEEN_WITHIN: Duration = Duration::from_secs(90);

/// Settings of the readings topic, and whether each is refused or only warned of.
const UNSAFE: [(&str, &str, bool); 12] = [
    ("max.message.bytes", "1000000", true),
    ("max.message.bytes", "1200000", false),
    ("cleanup.policy", "compact", true),
    ("min.insync.replicas", "2", true),
    ("unclean.leader.election.enable", "true", false),
    ("retention.ms", "1800000", true),
    ("retention.ms", "7200000", false),
    ("retention.bytes", "1000000000", false),
    ("compression.type", "gzip", false),
    ("message.timestamp.type", "LogAppendTime", false),
    ("message.timestamp.after.max.ms", "60000", false),
    ("message.timestamp.before.max.ms", "60000", false),
];

/// Sends a reading. Returns the status and whether the answer asks for a later attempt.
async fn upload(world: &World, gateway: &Service) -> Result<(u16, bool)> {
    let (status, seconds) = upload_and_wait(world, gateway).await?;
    Ok((status, seconds.is_some()))
}

/// Sends a reading. Returns the status and the seconds until the attempt that the answer asks for.
async fn upload_and_wait(world: &World, gateway: &Service) -> Result<(u16, Option<u64>)> {
    let reading = json!({
        "deviceSn": world.device(1), "heart_rate": 80, "timestamp": "2025-09-02 16:09:00",
    });
    let answer = http::post(&gateway.url(DEVICES), reading.to_string()).await?;
    let seconds = answer.header("retry-after").and_then(|value| value.parse().ok());
    Ok((answer.status, seconds))
}

/// Waits until the gateway is not ready for this reason.
async fn refuses(gateway: &Service, reason: &str) -> Result<()> {
    readyz(gateway, 503, reason, SEEN_WITHIN).await
}

#[tokio::test(flavor = "multi_thread")]
async fn unsafe_topic_is_refused() -> Result<()> {
    let world = world("unsafe").await?;
    let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
    kafka::configure(brokers, topic, &[("cleanup.policy", "compact")]).await?;
    let mut gateway = world.gateway().spawn()?;
    refuses(&gateway, &format!("cleanup.policy of topic {topic} is compact")).await?;
    ensure!(upload(&world, &gateway).await? == (503, true), "a refused topic takes readings");
    eventually(SEEN_WITHIN, "more refused senders wait longer", || async {
        let (_, seconds) = upload_and_wait(&world, &gateway).await?;
        Ok(seconds.filter(|seconds| *seconds > 2))
    })
    .await?;
    ensure!(kafka::records(brokers, topic).await?.is_empty(), "a record of a refused body");
    ensure!(http::get(&gateway.admin("/livez")).await?.status == 200, "the process stays");
    let said = gateway.output().matches("topic refused until it is fixed").count();
    ensure!(said == 1, "logged {said} times");
    kafka::configure(brokers, topic, &[("cleanup.policy", "delete")]).await?;
    gateway.ready().await?;
    ensure!(upload(&world, &gateway).await? == (200, false), "a fixed topic takes no readings");
    eventually(SEEN_WITHIN, "it is safe again", || async {
        Ok((gateway.metric("kafka_topic_unsafe", "").await? == 0.0).then_some(()))
    })
    .await?;
    finish(world, [gateway]).await
}

/// Neither a gateway nor `worker migrate` without three brokers makes a topic. The broker of the
/// stack forbids it too. The worked example of this name has a broker that would create the topic.
#[tokio::test(flavor = "multi_thread")]
async fn no_topic_is_made_by_accident() -> Result<()> {
    let world = World::shared("nowhere").await?;
    let brokers = &world.stack.kafka_brokers;
    let mut gateway = world.gateway().spawn()?;
    refuses(&gateway, &format!("topic {} does not exist", world.readings_topic)).await?;
    ensure!(upload(&world, &gateway).await? == (503, true), "a missing topic takes readings");
    let refused = world.launch("worker", &["migrate"]).env("DEVELOPMENT", "false").finish().await?;
    ensure!(refused.code == Some(1), "{:?}: {}", refused.code, refused.text);
    for remedy in ["add brokers", "DEVELOPMENT=true"] {
        ensure!(refused.text.contains(remedy), "nothing of {remedy}: {}", refused.text);
    }
    for topic in [&world.readings_topic, &world.rejects_topic] {
        let made = kafka::topic_names(brokers, topic).await?;
        ensure!(made.is_empty(), "{made:?} was created");
    }
    world.migrate().await?;
    gateway.ready().await?;
    ensure!(upload(&world, &gateway).await? == (200, false), "the topic takes no readings");
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_unsafe_setting_is_named_with_its_value() -> Result<()> {
    let world = world("settings").await?;
    let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
    for (setting, value, refused) in UNSAFE {
        kafka::configure(brokers, topic, &[(setting, value)]).await?;
        let gateway = world.gateway().spawn()?;
        let named = format!("{setting} of topic {topic} is {value}");
        eventually(SEEN_WITHIN, &named, || async {
            let labels = format!("setting=\"{setting}\"");
            let shown = gateway.metric("kafka_topic_unsafe", &labels).await?;
            ensure!(shown == 1.0, "the gauge is {shown}");
            ensure!(gateway.output().contains(&named), "the log does not name it");
            let answer = http::get(&gateway.admin("/readyz")).await?;
            let status = if refused { 503 } else { 200 };
            ensure!(answer.status == status, "{}: {}", answer.status, answer.text);
            ensure!(answer.text.contains(&named) == refused, "{}", answer.text);
            Ok(Some(()))
        })
        .await?;
        gateway.kill().await?;
    }
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn unsafe_replication_is_refused_where_safety_is_required() -> Result<()> {
    let world = world("required").await?;
    let named = format!("replication.factor of topic {} is 1", world.readings_topic);
    let warned = world.gateway().env("DEVELOPMENT", "false").start().await?;
    eventually(SEEN_WITHIN, "one replica is warned of", || async {
        Ok(warned.output().contains(&named).then_some(()))
    })
    .await?;
    ensure!(upload(&world, &warned).await? == (200, false), "a warning stops the intake");
    ensure!(warned.terminate().await?.success());
    let required = world.gateway().env("DEVELOPMENT", "false").env("REQUIRE_SAFE_TOPICS", "true");
    let required = required.spawn()?;
    refuses(&required, &named).await?;
    ensure!(upload(&world, &required).await? == (503, true), "an unsafe topic takes readings");
    finish(world, [required]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_becomes_unsafe_later_is_refused_until_it_is_fixed() -> Result<()> {
    let world = world("later").await?;
    let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
    let mut gateway = world.gateway().start().await?;
    ensure!(upload(&world, &gateway).await? == (200, false), "a safe topic takes no readings");
    kafka::add_partitions(brokers, topic, world.partitions() + 1).await?;
    kafka::configure(brokers, topic, &[("cleanup.policy", "compact")]).await?;
    refuses(&gateway, &format!("cleanup.policy of topic {topic} is compact")).await?;
    ensure!(upload(&world, &gateway).await? == (503, true), "an unsafe topic takes readings");
    eventually(SEEN_WITHIN, "the changed partitions are shown", || async {
        let changed = gateway.metric("kafka_topic_unsafe", "setting=\"partitions\"").await?;
        Ok((changed == 1.0).then_some(()))
    })
    .await?;
    kafka::configure(brokers, topic, &[("cleanup.policy", "delete")]).await?;
    gateway.ready().await?;
    ensure!(upload(&world, &gateway).await? == (200, false), "a fixed topic takes no readings");
    finish(world, [gateway]).await
}
