//! Rejects have a bound: their rate at each gateway, and their bytes in Kafka.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_service::kafka::topic_settings::{TopicSettings, topic_settings};
use ljwx_tests::clients::http::{self, Answer};
use ljwx_tests::clients::kafka;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use serde_json::json;

use crate::support::{finish, world};

const DEVICES: &str = "/upload_health_data";
const API: &str = "/v1/readings";

/// The longest that a condition may take to come true.
const SOON: Duration = Duration::from_secs(30);

/// Bodies of which the gateway keeps the rejects before it has to refuse one, at most.
const BODIES_MAX: usize = 10;

/// Returns an item that is no reading.
fn no_reading(number: usize) -> String {
    json!({"heart_rate": 60 + number, "note": "no serial number"}).to_string()
}

/// Sends one reading of a device beside an item that is no reading.
async fn upload(world: &World, gateway: &Service, route: &str, number: usize) -> Result<Answer> {
    let reading = json!({
        "deviceSn": world.device(number), "heart_rate": 80, "timestamp": "2025-09-02 16:09:00",
    });
    let body = format!("{{\"data\":[{reading},{}]}}", no_reading(number));
    http::post(&gateway.url(route), body).await
}

/// Returns how many records of the topic are `value`, or have `value` as their key.
async fn count(world: &World, topic: &str, value: &str) -> Result<usize> {
    let records = kafka::records(&world.stack.kafka_brokers, topic).await?;
    let wanted = records.iter().filter(|record| {
        record.value == value.as_bytes() || record.key.as_deref() == Some(value.as_bytes())
    });
    Ok(wanted.count())
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_beyond_their_rate_are_not_acknowledged_and_their_readings_are_published()
-> Result<()> {
    let world = world("rejects").await?;
    let gateway = world
        .gateway()
        .env("REJECTS_BYTES_PER_S", "100")
        .env("REJECTS_BURST_BYTES", "1")
        .start()
        .await?;
    let first = upload(&world, &gateway, DEVICES, 0).await?;
    ensure!(first.status == 200 && first.json["details"]["error"] == 1, "{}", first.text);
    // The first body has left a debt of several seconds.
    let mut refused = None;
    for number in 1..BODIES_MAX {
        let answer = upload(&world, &gateway, DEVICES, number).await?;
        if answer.status == 503 {
            refused = Some((number, answer));
            break;
        }
    }
    let (number, answer) = refused.context("no body is refused")?;
    let wait = answer.header("retry-after").and_then(|value| value.parse::<u64>().ok());
    ensure!(wait.is_some_and(|wait| (1..=60).contains(&wait)), "{:?}", answer.headers);
    ensure!(answer.json["code"] == "unavailable", "{}", answer.text);
    let (device, reject) = (world.device(number), no_reading(number));
    ensure!(count(&world, &world.readings_topic, &device).await? == 1, "the reading is lost");
    ensure!(count(&world, &world.rejects_topic, &reject).await? == 0, "the reject is kept");
    ensure!(gateway.metric("gateway_rejects_throttled_total", "").await? >= 1.0);
    ensure!(gateway.metric("gateway_rejects_bytes_total", "").await? > 512.0);

    // A client gets its rejects in the answer, so none is kept.
    let answered = upload(&world, &gateway, API, number).await?;
    ensure!(answered.status == 200 && answered.json["details"]["error"] == 1, "{}", answered.text);

    let again = eventually(SOON, "the device's next attempt is taken", || async {
        let answer = upload(&world, &gateway, DEVICES, number).await?;
        Ok((answer.status == 200).then_some(answer))
    })
    .await?;
    ensure!(again.json["details"]["success"] == 1, "{}", again.text);
    ensure!(count(&world, &world.rejects_topic, &reject).await? == 1, "the reject is kept once");
    finish(world, [gateway]).await
}

async fn settings(world: &World, topic: &str) -> Result<TopicSettings> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &world.stack.kafka_brokers).create()?;
    let admin = &admin;
    eventually(SOON, "the settings of the topic", || async move {
        Ok(topic_settings(admin, topic, SOON).await?)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_and_dead_letters_have_a_limit_of_bytes_and_existing_topics_are_only_compared()
-> Result<()> {
    let world = world("bounded").await?;
    let letters = format!("{}.{}.dlq", world.readings_topic, world.worker_group);
    for topic in [&world.rejects_topic, &letters] {
        let limit = settings(&world, topic).await?.remove("retention.bytes");
        ensure!(limit.as_deref() == Some("4294967296"), "{topic}: {limit:?}");
    }
    kafka::configure(&world.stack.kafka_brokers, &world.rejects_topic, &[]).await?;
    let said = format!("retention.bytes of topic {} has no limit", world.rejects_topic);
    eventually(SOON, "the difference is named", || async {
        let again = world.launch("worker", &["migrate"]).finish().await?;
        ensure!(again.code == Some(0), "{:?}: {}", again.code, again.text);
        ensure!(again.text.contains(&said), "{}", again.text);
        ensure!(!again.text.contains("would be cut"), "{}", again.text);
        Ok(Some(()))
    })
    .await?;
    let limit = settings(&world, &world.rejects_topic).await?.remove("retention.bytes");
    ensure!(limit.as_deref() == Some("-1"), "{limit:?}");
    world.finish().await
}
