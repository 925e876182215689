//! A gateway that is stopped ends within its time, whatever its clients and Kafka are doing.

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::stack::Server;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{SOON, world};

const DEVICES: &str = "/upload_health_data";

/// A head that does not end.
const HALF: &str = "POST /upload_health_data HTTP/1.1\r\nhost: x\r\n";

/// A request that publishes no record.
const NOTHING: &str = "POST /upload_health_data HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";

/// A request whose body does not end.
const ENDLESS: &str = "POST /upload_health_data HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{";

/// Opens a connection and sends these bytes.
async fn connection(gateway: &Service, sent: &str) -> Result<TcpStream> {
    let address = gateway.listen().context("the gateway listens")?;
    let mut connection = TcpStream::connect(address).await?;
    connection.write_all(sent.as_bytes()).await?;
    Ok(connection)
}

/// Waits until this many connections are in a state.
async fn connections(gateway: &Service, state: &str, count: f64) -> Result<()> {
    let labels = format!("state=\"{state}\"");
    eventually(SOON, &format!("{count} connections: {state}"), || async {
        let found = gateway.metric("gateway_connections", &labels).await?;
        ensure!(found == count, "there are {found}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_does_not_wait_for_half_a_head() -> Result<()> {
    let world = world("halfhead").await?;
    // Each of these times is far longer than the test waits for the end.
    let gateway = world
        .gateway()
        .env("HEADER_TIMEOUT", "5m")
        .env("IDLE_TIMEOUT", "5m")
        .env("DRAIN_TIMEOUT", "5m")
        .start()
        .await?;
    let idle = connection(&gateway, NOTHING).await?;
    let half = connection(&gateway, HALF).await?;
    connections(&gateway, "idle", 1.0).await?;
    connections(&gateway, "head", 1.0).await?;
    ensure!(gateway.terminate().await?.success(), "the gateway failed");
    drop((idle, half));
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_in_time_with_requests_stuck_in_a_body_and_in_kafka() -> Result<()> {
    let world = World::exclusive("stuck").await?;
    world.migrate().await?;
    // One after the other, these times would take longer than the test waits for the end.
    let gateway = world
        .gateway()
        .env("ACK_STALL", "30s")
        .env("MESSAGE_TIMEOUT", "9s")
        .env("ANSWER_TIMEOUT", "11s")
        .env("BODY_GAP", "5m")
        .env("BODY_GRACE", "5m")
        .env("DRAIN_TIMEOUT", "15s")
        .start()
        .await?;
    let (url, body) = (gateway.url(DEVICES), json!({"deviceSn": world.device(1), "step": 1}));
    let answer = http::post(&url, body.to_string()).await?;
    ensure!(answer.status == 200, "{}", answer.text);
    let frozen = Server::Kafka.freeze()?;
    let waiting = tokio::spawn(async move { http::post(&url, body.to_string()).await });
    let arriving = connection(&gateway, ENDLESS).await?;
    connections(&gateway, "request", 2.0).await?;
    eventually(SOON, "one of them waits for Kafka", || async {
        let waiting = gateway.metric("gateway_requests_in_flight", "").await?;
        Ok((waiting == 1.0).then_some(()))
    })
    .await?;
    ensure!(gateway.terminate().await?.success(), "the gateway failed");
    let acknowledged = waiting.await?.is_ok_and(|answer| answer.status == 200);
    ensure!(!acknowledged, "a record that Kafka does not have is acknowledged");
    drop((frozen, arriving));
    world.finish().await
}
