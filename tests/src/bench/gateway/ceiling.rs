//! The gateway's ceiling: the same HTTP server and the same producer, with nothing between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use bytes::Bytes;
use ljwx_service::kafka::producer::publisher::{
    ACK_STALL, OutgoingRecord, Publisher, PublisherLimits,
};
use rdkafka::ClientConfig;
use rdkafka::message::OwnedHeaders;
use tokio::net::TcpListener;

/// In a closed loop every connection waits for each linger: a longer one would be all that is
/// measured. The gateway gets the same linger.
pub(crate) const LINGER: Duration = Duration::from_millis(2);

/// Number of keys over which the records spread, like those of this many devices.
const KEYS: usize = 1000;

#[derive(Clone)]
struct Bare {
    publisher: Publisher,
    topic: String,
    next: Arc<AtomicUsize>,
}

/// Publishes every body unchanged and answers once Kafka has it.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", variable("KAFKA_BROKERS")?);
    let limits = PublisherLimits {
        message_timeout: Duration::from_secs(6),
        ack_stall: ACK_STALL,
        linger: LINGER,
        queue_kbytes: 128 * 1024,
        queue_records: 100_000,
        message_bytes_max: 2 * 1024 * 1024,
    };
    let bare = Bare {
        publisher: Publisher::new(client, &limits)?,
        topic: variable("READINGS_TOPIC")?,
        next: Arc::default(),
    };
    let admin = TcpListener::bind(variable("ADMIN_LISTEN")?).await?;
    let ready = Router::new().route("/readyz", get(async || "ok"));
    tokio::spawn(axum::serve(admin, ready).into_future());
    let router = Router::new().route("/upload_health_data", post(publish)).with_state(bare);
    let listener = TcpListener::bind(variable("LISTEN")?).await?;
    Ok(axum::serve(listener, router).await?)
}

async fn publish(State(bare): State<Bare>, body: Bytes) -> (StatusCode, &'static str) {
    let key = (bare.next.fetch_add(1, Ordering::Relaxed) % KEYS).to_string();
    let pending = bare.publisher.enqueue(OutgoingRecord {
        topic: &bare.topic,
        key: Some(key.as_bytes().into()),
        partition: None,
        value: Some((&body[..]).into()),
        headers: OwnedHeaders::new(),
        timestamp_ms: None,
    });
    let confirmed = match pending {
        Ok(pending) => pending.confirmed().await.is_ok(),
        Err(_) => false,
    };
    if confirmed {
        (StatusCode::OK, "{\"status\":\"success\"}")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "{\"status\":\"error\"}")
    }
}
