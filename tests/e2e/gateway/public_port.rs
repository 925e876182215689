//! Strangers, slow lines and full buffers at the public port do not affect other clients.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::stack::Server;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{finish, world};

const DEVICES: &str = "/upload_health_data";

/// A request that keeps its connection open and publishes no record.
const NOTHING: &str = "POST /upload_health_data HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";

/// The longest that a condition may take to come true.
const SOON: Duration = Duration::from_secs(20);

/// The pause of a slow client.
const PAUSE: Duration = Duration::from_secs(2);

fn reading(world: &World, number: usize) -> Value {
    json!({"deviceSn": world.device(number), "heart_rate": 80, "timestamp": "2025-09-02 16:09:00"})
}

async fn silent(gateway: &Service, count: usize) -> Result<Vec<TcpStream>> {
    let address = gateway.listen().context("the gateway listens")?;
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(TcpStream::connect(address).await.context("a silent connection")?);
    }
    Ok(connections)
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_do_not_take_the_gateway_away() -> Result<()> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let world = world("silent").await?;
    let body = reading(&world, 1).to_string();
    // More connections than files that the gateway may open at first. No connection ends by itself.
    let gateway = world.gateway().open_files(1024).env("HEADER_TIMEOUT", "5m").start().await?;
    let connections = silent(&gateway, 1_100).await?;
    eventually(SOON, "all of them are held", || async {
        let heads = gateway.metric("gateway_connections", "state=\"head\"").await?;
        Ok((heads >= 1_100.0).then_some(()))
    })
    .await?;
    ensure!(http::post(&gateway.url(DEVICES), body.clone()).await?.status == 200);
    ensure!(http::get(&gateway.admin("/readyz")).await?.status == 200);
    drop(connections);
    ensure!(gateway.terminate().await?.success());

    // More connections than the gateway takes at a time. The others wait in the kernel until the
    // timeout of heads makes room.
    let gateway = world.gateway().env("HEADER_TIMEOUT", "2s").start().await?;
    let connections = silent(&gateway, 5_000).await?;
    ensure!(http::get(&gateway.admin("/readyz")).await?.status == 200);
    let held = gateway.metric("gateway_connections", "").await?;
    ensure!(held <= 4_096.0, "{held} connections");
    eventually(SOON, "a device is heard", || async {
        Ok((http::post(&gateway.url(DEVICES), body.clone()).await?.status == 200).then_some(()))
    })
    .await?;
    let reason = "reason=\"header_timeout\"";
    ensure!(gateway.metric("gateway_connections_refused_total", reason).await? > 0.0);
    drop(connections);
    finish(world, [gateway]).await
}

/// Sends a request on a connection that stays open. Returns whether the gateway's answer announces
/// the end of the connection.
async fn is_ended(connection: &mut TcpStream) -> Result<bool> {
    connection.write_all(NOTHING.as_bytes()).await?;
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while !answer.ends_with(b"}") {
        let read = connection.read(&mut part).await?;
        ensure!(read > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..read]);
    }
    Ok(String::from_utf8_lossy(&answer).to_lowercase().contains("connection: close"))
}

#[tokio::test(flavor = "multi_thread")]
async fn where_connections_grow_scarce_each_answer_ends_its_own() -> Result<()> {
    let world = world("scarce").await?;
    let gateway = world.gateway().env("CONNECTIONS_MAX", "20").start().await?;
    let mut keeps = silent(&gateway, 1).await?.remove(0);
    ensure!(!is_ended(&mut keeps).await?, "one of twenty is not many");
    let others = silent(&gateway, 16).await?;
    eventually(SOON, "all of them are held", || async {
        Ok((gateway.metric("gateway_connections", "").await? >= 17.0).then_some(()))
    })
    .await?;
    ensure!(is_ended(&mut keeps).await?, "17 of twenty are more than four fifths");
    drop(others);
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_takes_no_answers_is_left() -> Result<()> {
    let world = world("deaf").await?;
    let gateway = world.gateway().start().await?;
    let mut deaf = silent(&gateway, 1).await?.remove(0);
    let requests = NOTHING.repeat(1_000);
    // The peer sends requests without end and reads no answer. Both directions fill up until the
    // gateway ends the connection.
    let asking =
        tokio::spawn(async move { while deaf.write_all(requests.as_bytes()).await.is_ok() {} });
    let reason = "reason=\"write_timeout\"";
    eventually(Duration::from_secs(60), "the peer is left", || async {
        let left = gateway.metric("gateway_connections_refused_total", reason).await?;
        Ok((left == 1.0).then_some(()))
    })
    .await?;
    asking.await?;
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_cache_over_a_slow_line_is_accepted_and_holds_up_nobody() -> Result<()> {
    let world = world("slow").await?;
    // The gateway has one slot: a body that is still arriving must not hold it.
    let gateway = world.gateway().env("REQUESTS_MAX", "1").start().await?;
    let address = gateway.listen().context("the gateway listens")?;
    let item = |number: usize| {
        let mut item = reading(&world, 1);
        item["timestamp"] = format!("2025-09-02 16:{:02}:{:02}", number / 60, number % 60).into();
        item["filler"] = "x".repeat(1_600).into();
        item
    };
    let cache = json!({"data": (0..100).map(item).collect::<Vec<_>>()}).to_string();
    ensure!(cache.len() >= 160_000, "{} bytes are no full cache", cache.len());
    let slow = http::post_at_rate(address, DEVICES, &cache, 25_000);
    let others = async {
        // The one slot must be free when the head of the slow request arrives.
        eventually(SOON, "the slow body is under way", || async {
            let bytes = gateway.metric("gateway_bytes_in_flight", "").await?;
            Ok((bytes > 0.0).then_some(()))
        })
        .await?;
        eventually(SOON, "another device is heard", || async {
            let answer = http::post(&gateway.url(DEVICES), reading(&world, 2).to_string()).await?;
            Ok((answer.status == 200).then_some(()))
        })
        .await
    };
    let (answer, ()) = tokio::try_join!(slow, others)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    ensure!(answer.contains("\"success\":100"), "{answer}");
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_a_request_begins_with_the_end_of_its_head_and_includes_its_body() -> Result<()>
{
    let world = world("timed").await?;
    let gateway = world.gateway().start().await?;
    let body = reading(&world, 1).to_string();
    let (first, rest) = body.split_at(body.len() / 2);
    let begun = Instant::now();
    let mut connection = silent(&gateway, 1).await?.remove(0);
    connection.write_all(format!("POST {DEVICES} HTTP/1.1\r\nhost: x\r\n").as_bytes()).await?;
    pass(PAUSE).await;
    let before = begun.elapsed();
    let end_of_head = format!("content-length: {}\r\n\r\n{first}", body.len());
    connection.write_all(end_of_head.as_bytes()).await?;
    eventually(SOON, "the body is under way", || async {
        Ok((gateway.metric("gateway_bytes_in_flight", "").await? > 0.0).then_some(()))
    })
    .await?;
    pass(PAUSE).await;
    connection.write_all(rest.as_bytes()).await?;
    timeout(SOON, connection.read_u8()).await.context("the request is answered")??;
    let most = (begun.elapsed() - before).as_secs_f64();
    let took = gateway.metric("gateway_request_seconds_sum", DEVICES).await?;
    ensure!(took >= PAUSE.as_secs_f64() && took <= most, "{took} s of at most {most} s");
    finish(world, [gateway]).await
}

/// Opens a connection and sends a JSON object without its closing brace.
async fn body_under_way(gateway: &Service, body: &str) -> Result<TcpStream> {
    let mut connection = silent(gateway, 1).await?.remove(0);
    let length = body.len();
    let head = format!("POST {DEVICES} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    connection.write_all(head.as_bytes()).await?;
    let begun = body.strip_suffix('}').context("an object")?;
    connection.write_all(begun.as_bytes()).await?;
    Ok(connection)
}

/// An object of this many bytes at most whose keys take far more memory than its text.
fn keys(bytes: usize) -> String {
    format!("{{{}\"\":0}}", "\"\":0,".repeat(bytes / 5 - 2))
}

/// A reading whose document would take far more memory as a tree than as text.
fn document(world: &World) -> String {
    let objects = format!("[{}0]", "{\"\":0},".repeat(9_360));
    format!("{{\"deviceSn\":\"{}\",\"sleepData\":{{\"data\":{objects}}}}}", world.device(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_beyond_the_budget_are_refused_until_others_have_gone() -> Result<()> {
    let world = world("budget").await?;
    let gateway = world
        .gateway()
        .env("BODY_BYTES_MAX", "200000")
        .env("INFLIGHT_BYTES_MAX", "1600000")
        .start()
        .await?;
    let mut bodies = Vec::new();
    for _ in 0..7 {
        bodies.push(body_under_way(&gateway, &keys(200_000)).await?);
    }
    eventually(SOON, "they hold the budget", || async {
        let held = gateway.metric("gateway_bytes_in_flight", "").await?;
        Ok((held > 1_480_000.0).then_some(()))
    })
    .await?;
    let url = gateway.url(DEVICES);
    let large = json!({"data": reading(&world, 1), "filler": "x".repeat(120_000)}).to_string();
    let refused = http::post(&url, large.clone()).await?;
    ensure!(refused.status == 503 && refused.json["code"] == "unavailable", "{}", refused.text);
    ensure!(refused.header("retry-after").is_some(), "{:?}", refused.headers);
    drop(bodies);
    eventually(SOON, "there is room again", || async {
        Ok((http::post(&url, large.clone()).await?.status == 200).then_some(()))
    })
    .await?;
    eventually(SOON, "all of it is given back", || async {
        Ok((gateway.metric("gateway_bytes_in_flight", "").await? == 0.0).then_some(()))
    })
    .await?;
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_bound_holds_with_all_its_terms_at_once() -> Result<()> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let world = World::exclusive("bound").await?;
    world.migrate().await?;
    let gateway = world
        .gateway()
        .env("CONNECTIONS_MAX", "4096")
        .env("HEADER_TIMEOUT", "5m")
        .env("BODY_GAP", "5m")
        .env("BODY_GRACE", "5m")
        .env("MESSAGE_TIMEOUT", "1m")
        .env("ACK_STALL", "70s")
        .env("ANSWER_TIMEOUT", "70s")
        .env("DRAIN_TIMEOUT", "70s")
        .start()
        .await?;
    // Fill the producer's queue, which a frozen Kafka does not empty: each body has a thousand
    // readings.
    let frozen = Server::Kafka.freeze()?;
    let items: Vec<_> = (0..1_000).map(|number| reading(&world, number)).collect();
    let many = json!({"data": items}).to_string();
    let url = gateway.url(DEVICES);
    let mut waiting = JoinSet::new();
    for _ in 0..60 {
        let (url, many) = (url.clone(), many.clone());
        waiting.spawn(async move { http::post(&url, many).await });
    }
    eventually(SOON, "no record finds room any more", || async {
        Ok((gateway.metric("gateway_requests_total", "status=\"503\"").await? > 0.0).then_some(()))
    })
    .await?;
    // Fill the rest of the budget with bodies that need the most memory beside it.
    let mut bodies = Vec::new();
    for body in [vec![keys(1024 * 1024); 12], vec![document(&world); 140]].concat() {
        bodies.push(body_under_way(&gateway, &body).await?);
    }
    // Open all other connections, each with a head that does not end.
    let half = format!("POST {DEVICES} HTTP/1.1\r\nhost: x\r\nfiller: {}", "x".repeat(15_000));
    let mut heads = silent(&gateway, 3_800).await?;
    for head in &mut heads {
        head.write_all(half.as_bytes()).await?;
    }
    eventually(SOON, "it holds all of it", || async {
        let heads = gateway.metric("gateway_connections", "state=\"head\"").await?;
        let bytes = gateway.metric("gateway_bytes_in_flight", "").await?;
        Ok((heads >= 3_800.0 && bytes > 20.0 * 1024.0 * 1024.0).then_some(()))
    })
    .await?;
    // End the bodies all at once.
    for body in &mut bodies {
        body.write_all(b"}").await?;
    }
    for body in &mut bodies {
        let answered = timeout(SOON, body.read_u8()).await.context("a body is answered")?;
        answered?;
    }
    let bound = gateway.metric("gateway_memory_bound_bytes", "").await? / 1024.0 / 1024.0;
    let most = gateway.memory("VmHWM").context("what the kernel says of its memory")?;
    ensure!(most < bound, "{most:.0} MiB of {bound:.0} that it printed");
    drop((frozen, heads, bodies, waiting));
    finish(world, [gateway]).await
}
