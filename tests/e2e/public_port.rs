//! What strangers, slow lines and full buffers can do to the public port: nothing to anybody else.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::http;
use tests::process::Service;
use tests::wait::eventually;
use tests::world::World;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const DEVICES: &str = "/upload_health_data";

/// How long a condition may take to come about.
const SOON: Duration = Duration::from_secs(20);

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
    let world = World::shared("silent").await?;
    world.migrate().await?;
    let body = reading(&world, 1).to_string();
    // More than the files it may open at first, and none of them ends by itself.
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

    // More than it takes at a time: the rest waits in the kernel, and the clock of heads makes room.
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
    ensure!(gateway.terminate().await?.success());
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_cache_over_a_slow_line_is_accepted_and_holds_up_nobody() -> Result<()> {
    let world = World::shared("slow").await?;
    world.migrate().await?;
    // One slot: a body that is still arriving must not hold it.
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
        // Watches do not wait for each other.
        eventually(SOON, "another device is heard", || async {
            let answer = http::post(&gateway.url(DEVICES), reading(&world, 2).to_string()).await?;
            Ok((answer.status == 200).then_some(()))
        })
        .await
    };
    let (answer, ()) = tokio::try_join!(slow, others)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    ensure!(answer.contains("\"success\":100"), "{answer}");
    ensure!(gateway.terminate().await?.success());
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_beyond_the_budget_are_refused_until_others_have_gone() -> Result<()> {
    let world = World::shared("budget").await?;
    world.migrate().await?;
    let gateway = world
        .gateway()
        .env("BODY_BYTES_MAX", "200000")
        .env("INFLIGHT_BYTES_MAX", "1600000")
        .start()
        .await?;
    let mut connections = silent(&gateway, 7).await?;
    let head = "POST /upload_health_data HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n";
    for connection in &mut connections {
        connection.write_all(head.as_bytes()).await?;
        connection.write_all(&[b' '; 199_999]).await?;
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
    drop(connections);
    eventually(SOON, "there is room again", || async {
        Ok((http::post(&url, large.clone()).await?.status == 200).then_some(()))
    })
    .await?;
    eventually(SOON, "all of it is given back", || async {
        Ok((gateway.metric("gateway_bytes_in_flight", "").await? == 0.0).then_some(()))
    })
    .await?;
    ensure!(gateway.terminate().await?.success());
    world.finish().await
}
