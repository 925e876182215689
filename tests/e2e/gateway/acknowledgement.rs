//! A gateway judges Kafka by acknowledgements alone, and takes a whole body or none.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use ljwx_tests::clients::http::{self, Answer};
use ljwx_tests::clients::kafka::{self, Record};
use ljwx_tests::stack::launch::Launch;
use ljwx_tests::stack::moved_clock::MovedClock;
use ljwx_tests::stack::{Frozen, Server};

use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{SOON, finish, readyz, world};

const DEVICES: &str = "/upload_health_data";

/// The time after which the second half of a slow body follows.
const LATER: Duration = Duration::from_secs(4);

/// Starts a gateway in a world whose test freezes the broker.
async fn gateway(name: &str, settings: impl Fn(Launch) -> Launch) -> Result<(World, Service)> {
    let world = World::exclusive(name).await?;
    world.migrate().await?;
    let gateway = settings(world.gateway()).start().await?;
    Ok((world, gateway))
}

fn impatient(launch: Launch) -> Launch {
    launch.env("ACK_STALL", "2s").env("READY_GRACE", "1s").env("MESSAGE_TIMEOUT", "2s")
}

/// Lets requests wait for a Kafka that acknowledges nothing. Kafka counts as stalled only after a
/// record's longest wait.
fn patient(launch: Launch) -> Launch {
    launch.env("ACK_STALL", "30s").env("MESSAGE_TIMEOUT", "9s").env("ANSWER_TIMEOUT", "11s")
}

/// A body with this many readings of a device.
fn body(world: &World, device: usize, readings: usize) -> String {
    let reading = |step| json!({"deviceSn": world.device(device), "step": step});
    Value::from((0..readings).map(reading).collect::<Vec<_>>()).to_string()
}

async fn upload(world: &World, gateway: &Service, device: usize) -> Result<Answer> {
    http::post(&gateway.url(DEVICES), body(world, device, 1)).await
}

/// Freezes the broker, whose connections stay open, and waits until a request has met that.
async fn stall(world: &World, gateway: &Service) -> Result<Frozen> {
    ensure!(upload(world, gateway, 1).await?.status == 200, "Kafka does not acknowledge before");
    let frozen = Server::Kafka.freeze()?;
    // After the request the producer may give the connection up.
    let waits = eventually(SOON, "the request waits for a connected broker", || async {
        let records = gateway.metric("producer_queue_records", "").await?;
        let connected = gateway.metric("producer_broker_up", "").await?;
        ensure!(records >= 1.0 && connected >= 1.0, "{records} records, {connected} brokers");
        Ok(Some(()))
    });
    let (met, ()) = tokio::try_join!(upload(world, gateway, 1), waits)?;
    ensure!(met.status == 503 && met.header("retry-after").is_some(), "{}", met.text);
    Ok(frozen)
}

async fn readings_of(world: &World, device: usize) -> Result<usize> {
    let records = kafka::records(&world.stack.kafka_brokers, &world.readings_topic).await?;
    let key = Some(world.device(device).into_bytes());
    Ok(records.iter().filter(|record: &&Record| record.key == key).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_clock_was_never_set_takes_nothing_until_it_is() -> Result<()> {
    let world = world("unset").await?;
    let clock = MovedClock::create(&world.logs.join("clock")).await?;
    clock.set(-Timestamp::now().as_second())?;
    let mut gateway = clock.of(world.gateway()).spawn()?;
    readyz(&gateway, 503, "the clock of this host", SOON).await?;
    let refused = upload(&world, &gateway, 1).await?;
    ensure!(refused.status == 503 && refused.header("retry-after").is_some(), "{}", refused.text);
    clock.set(0)?;
    gateway.ready().await?;
    ensure!(upload(&world, &gateway, 1).await?.status == 200, "a set clock takes no readings");
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_acknowledgements_refuses_at_once_until_a_probe_succeeds() -> Result<()> {
    let (world, gateway) = gateway("noack", impatient).await?;
    let steadfast = impatient(world.gateway()).env("READY_WHILE_STALLED", "true").start().await?;
    let frozen = stall(&world, &gateway).await?;
    // The request before has just ended, so this one is no probe.
    let refused = upload(&world, &gateway, 2).await?;
    let seconds = refused.header("retry-after").and_then(|value| value.parse::<u64>().ok());
    ensure!(refused.status == 503 && refused.json["status"] == "error", "{}", refused.text);
    ensure!(seconds.is_some_and(|seconds| (5..=60).contains(&seconds)), "{seconds:?}");
    readyz(&gateway, 503, "Kafka has acknowledged nothing", SOON).await?;
    eventually(SOON, "the stall is shown", || async {
        Ok((gateway.metric("producer_stalled_seconds", "").await? > 0.0).then_some(()))
    })
    .await?;
    ensure!(http::get(&gateway.admin("/livez")).await?.status == 200, "the process stays");

    // Where the balancer does not fail open, only the readiness differs.
    ensure!(upload(&world, &steadfast, 4).await?.status == 503);
    eventually(SOON, "the grace is over", || async {
        Ok((steadfast.metric("producer_stalled_seconds", "").await? > 1.0).then_some(()))
    })
    .await?;
    readyz(&steadfast, 200, "", SOON).await?;
    ensure!(
        upload(&world, &steadfast, 5).await?.status == 503,
        "requests are refused all the same"
    );
    drop(frozen);
    eventually(SOON, "a probe succeeds", || async {
        Ok((upload(&world, &gateway, 3).await?.status == 200).then_some(()))
    })
    .await?;
    readyz(&gateway, 200, "", SOON).await?;
    ensure!(readings_of(&world, 2).await? == 0, "what is refused at once is not published");
    for line in ["Kafka acknowledges no record", "Kafka is no longer stalled"] {
        eventually(SOON, line, || async { Ok(gateway.output().contains(line).then_some(())) })
            .await?;
    }
    finish(world, [steadfast, gateway]).await
}

/// The client gives up after a watch's time, which begins with the last byte of its body.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_is_answered_in_time_though_kafka_acknowledges_nothing() -> Result<()> {
    let (world, gateway) = gateway("slowbody", |launch| launch.env("ACK_STALL", "30s")).await?;
    ensure!(upload(&world, &gateway, 1).await?.status == 200, "Kafka does not acknowledge before");
    let frozen = Server::Kafka.freeze()?;
    let address = gateway.listen().context("the gateway listens")?;
    let answer = http::post_slowly(address, DEVICES, &body(&world, 2, 1), LATER).await?;
    ensure!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    drop(frozen);
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_gateway_that_gets_no_requests_comes_back() -> Result<()> {
    let (world, gateway) = gateway("quiet", impatient).await?;
    let frozen = stall(&world, &gateway).await?;
    readyz(&gateway, 503, "Kafka has acknowledged nothing", SOON).await?;
    drop(frozen);
    // A balancer sends nothing now.
    readyz(&gateway, 200, "", SOON).await?;
    ensure!(gateway.metric("producer_stalled_seconds", "").await? > 0.0, "nothing has healed it");
    // The first request is the probe. The broker may need a moment to lead its partitions again.
    eventually(SOON, "a probe succeeds", || async {
        Ok((upload(&world, &gateway, 2).await?.status == 200).then_some(()))
    })
    .await?;
    eventually(SOON, "Kafka is not stalled", || async {
        Ok((gateway.metric("producer_stalled_seconds", "").await? == 0.0).then_some(()))
    })
    .await?;
    ensure!(upload(&world, &gateway, 3).await?.status == 200, "all requests pass again");
    finish(world, [gateway]).await
}

/// That the successor publishes is the worked example of this name, on a broker of its own: these
/// brokers cannot show the settings of topics.
#[tokio::test(flavor = "multi_thread")]
async fn fatal_producer_heals() -> Result<()> {
    let world = World::shared("fatal").await?;
    // Brokers that refuse one producer, as if the right to write were missing.
    let brokers = MockCluster::new(1)?;
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    brokers.request_errors(RDKafkaApiKey::InitProducerId, &[refusal]);
    let gateway = world.gateway().env("KAFKA_BROKERS", brokers.bootstrap_servers()).spawn()?;
    eventually(SOON, "the producer is replaced", || async {
        let code = "code=\"ClusterAuthorizationFailed\"";
        let made = gateway.metric("gateway_producer_restarts_total", code).await?;
        Ok((made == 1.0).then_some(()))
    })
    .await?;
    for line in ["Kafka producer failed permanently", "Kafka producer replaced"] {
        eventually(SOON, line, || async { Ok(gateway.output().contains(line).then_some(())) })
            .await?;
    }
    ensure!(http::get(&gateway.admin("/livez")).await?.status == 200, "the process stays");
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_body_or_none() -> Result<()> {
    // Kafka is not stalled meanwhile, so only the places decide.
    let few = |launch| patient(launch).env("QUEUE_RECORDS", "2000");
    let (world, gateway) = gateway("whole", few).await?;
    let frozen = Server::Kafka.freeze()?;
    let url = gateway.url(DEVICES);
    let waiting = [1, 2].map(|device| {
        let (url, body) = (url.clone(), body(&world, device, 900));
        tokio::spawn(async move { http::post(&url, body).await })
    });
    eventually(SOON, "both bodies wait for Kafka", || async {
        Ok((gateway.metric("producer_queue_records", "").await? >= 1800.0).then_some(()))
    })
    .await?;
    let refused = http::post(&url, body(&world, 3, 201)).await?;
    ensure!(refused.status == 503 && refused.header("retry-after").is_some(), "{}", refused.text);
    let taken = tokio::spawn({
        let body = body(&world, 4, 200);
        async move { http::post(&url, body).await }
    });
    drop(frozen);
    for body in waiting.into_iter().chain([taken]) {
        let answer = body.await??;
        ensure!(answer.status == 200, "a body with its places gets no 200: {}", answer.text);
    }
    for (device, readings) in [(1, 900), (2, 900), (3, 0), (4, 200)] {
        let found = readings_of(&world, device).await?;
        ensure!(found == readings, "{found} readings of device {device}");
    }
    ensure!(gateway.metric("gateway_queue_full_midway_total", "").await? == 0.0);
    let whole = http::post(&gateway.url(DEVICES), body(&world, 3, 1000)).await?;
    ensure!(whole.status == 200, "every place is back: {}", whole.text);
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_client_leaves_before_the_answer_is_counted() -> Result<()> {
    let (world, gateway) = gateway("leaves", patient).await?;
    let frozen = Server::Kafka.freeze()?;
    let mut client = TcpStream::connect(gateway.listen().context("the gateway listens")?).await?;
    let body = body(&world, 1, 1);
    let head = format!("POST {DEVICES} HTTP/1.1\r\nhost: x\r\ncontent-length: {}", body.len());
    client.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await?;
    eventually(SOON, "the request waits for Kafka", || async {
        Ok((gateway.metric("gateway_requests_in_flight", "").await? == 1.0).then_some(()))
    })
    .await?;
    drop(client);
    eventually(SOON, "the request is counted", || async {
        let status = "status=\"client_closed\"";
        Ok((gateway.metric("gateway_requests_total", status).await? == 1.0).then_some(()))
    })
    .await?;
    let (timed, waiting) = ("gateway_request_seconds_count", "gateway_requests_in_flight");
    ensure!(gateway.metric(timed, DEVICES).await? == 1.0, "the time of the request");
    ensure!(gateway.metric(waiting, "").await? == 0.0, "the request still waits");
    drop(frozen);
    finish(world, [gateway]).await
}
