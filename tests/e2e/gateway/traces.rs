//! One reading's trace: from the device's request to the batch that stored it and to its alert.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::http::{self, Answer};
use ljwx_tests::clients::jaeger::{self, Span, trace};
use ljwx_tests::clients::kafka;
use ljwx_tests::fakes::platform::{self, HEART_RATE_HIGH, Rule};
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::stack::world::World;
use serde_json::{Value, json};

use crate::support::{finish, world};

/// Readings of the large batch: more than the 128 links that an SDK keeps.
const MANY: usize = 600;

/// Rejects of the largest body, and bodies of a flood.
const REJECTS: usize = 1_000;
const FLOOD: usize = 60;

/// Spans a second that rejects may cost, and those that they may cost at once.
const FORCED_PER_SECOND: f64 = 10.0;

/// Returns the trace id of the request that got this answer.
fn trace_of(answer: &Answer) -> Result<String> {
    Ok(answer.json["request_id"].as_str().context("request_id")?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_can_go_from_a_request_to_its_batch_and_back_and_to_its_alert() -> Result<()> {
    let world = world("trace").await?;
    jaeger::url(&world)?;
    platform::seed(&world, &[Rule { trend: 1, ..HEART_RATE_HIGH }]).await?;
    let wechat = FakeWechat::start().await?;
    let (gateway, worker, alerter) = tokio::try_join!(
        world.gateway().start(),
        world.worker().start(),
        world.alerter(&wechat).start(),
    )?;
    let body = json!({"data": {
        "deviceSn": world.device(1), "customerId": ljwx_tests::fleet::TENANT, "heart_rate": 150,
    }});
    let url = gateway.url("/upload_health_data");
    let answer = http::post(&url, body.to_string()).await?;
    ensure!(answer.status == 200, "{}", answer.text);
    let id = trace_of(&answer)?;
    let (send, process) =
        (format!("send {}", world.readings_topic), format!("process {}", world.readings_topic));
    let reading = trace(&world, &id, |trace| {
        ["POST /upload_health_data", &send, &process, "alert_check"]
            .iter()
            .all(|name| trace.one(name).is_ok())
    })
    .await?;
    let request = reading.one("POST /upload_health_data")?;
    let send = reading.one(&send)?;
    let process = reading.one(&process)?;
    let check = reading.one("alert_check")?;
    ensure!(request.service == "gateway" && request.parent.is_none(), "{request:?}");
    ensure!(send.service == "gateway" && under(send, request), "{send:?}");
    ensure!(process.service == "worker" && under(process, send), "{process:?}");
    ensure!(check.service == "alerter" && under(check, send), "{check:?}");

    let (batch_trace, batch_span) =
        process.links.first().context("the reading links to its batch")?;
    let batch = trace(&world, batch_trace, |trace| {
        ["batch_processing", "database_insert", "redis_update"]
            .iter()
            .all(|name| trace.one(name).is_ok())
    })
    .await?;
    let processing = batch.one("batch_processing")?;
    ensure!(processing.id == *batch_span && processing.service == "worker", "{processing:?}");
    ensure!(
        processing.links.contains(&(id.clone(), send.id.clone())),
        "no way back: {processing:?}"
    );
    for name in ["batch.id", "batch.size", "messaging.system"] {
        ensure!(processing.attribute(name).is_some(), "no attribute {name}: {processing:?}");
    }
    for child in ["database_insert", "redis_update"] {
        ensure!(under(batch.one(child)?, processing), "{child} is not under its batch");
    }
    finish(world, [gateway, worker, alerter]).await
}

fn under(child: &Span, parent: &Span) -> bool {
    child.parent.as_ref() == Some(&parent.id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_more_than_128_readings_loses_no_link() -> Result<()> {
    let world = World::shared("links").await?.with_partitions(1);
    jaeger::url(&world)?;
    world.migrate().await?;
    let gateway = world.gateway().start().await?;
    let device = world.device(1);
    let items: Vec<_> = (0..MANY)
        .map(|number| {
            let time = format!("2025-09-02 16:{:02}:{:02}", number / 60, number % 60);
            json!({"deviceSn": device, "heart_rate": 60 + number % 40, "timestamp": time})
        })
        .collect();
    let body = json!({ "data": items }).to_string();
    let answer = http::post(&gateway.url("/v1/readings"), body).await?;
    ensure!(answer.json["details"]["success"] == MANY, "{}", answer.text);
    let id = trace_of(&answer)?;
    // Start the worker after all readings are published, so that it takes them at once.
    let worker = world.worker().start().await?;
    let (send, process) =
        (format!("send {}", world.readings_topic), format!("process {}", world.readings_topic));
    let readings = trace(&world, &id, |trace| trace.named(&process).count() == MANY).await?;
    let sent: BTreeSet<String> = readings.named(&send).map(|span| span.id.clone()).collect();
    ensure!(sent.len() == MANY, "{} send spans", sent.len());
    let batches: BTreeSet<String> = readings
        .named(&process)
        .filter_map(|span| span.links.first())
        .map(|link| link.0.clone())
        .collect();
    let (mut linked, mut links, mut largest) = (BTreeSet::new(), 0, 0);
    for batch in &batches {
        let batch = trace(&world, batch, |trace| trace.one("redis_update").is_ok()).await?;
        let own: Vec<_> =
            batch.spans.iter().flat_map(|span| &span.links).filter(|link| link.0 == id).collect();
        let most = batch.spans.iter().map(|span| span.links.len()).max().unwrap_or_default();
        ensure!(most <= 128, "a span with {most} links: the rest would be cut");
        largest = largest.max(own.len());
        links += own.len();
        linked.extend(own.into_iter().map(|link| link.1.clone()));
    }
    ensure!(largest > 128, "no batch was large enough to prove it: {largest}");
    ensure!(
        links == MANY && linked == sent,
        "{links} links to {} of {MANY} readings",
        linked.len()
    );
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_rejects_costs_a_span_a_request_and_few_a_second() -> Result<()> {
    let world = world("rejectspans").await?;
    jaeger::url(&world)?;
    let gateway = world.gateway().env("TRACE_SAMPLE_RATIO", "0").start().await?;
    let url = gateway.url("/upload_health_data");
    let body = |rejects| Value::from(vec![json!({"heart_rate": 70}); rejects]).to_string();
    let begun = Instant::now();
    let first = http::post(&url, body(REJECTS)).await?;
    ensure!(first.json["details"]["error"] == REJECTS, "{}", first.text);
    for _ in 1..FLOOD {
        let answer = http::post(&url, body(1)).await?;
        ensure!(answer.json["details"]["error"] == 1, "{}", answer.text);
    }
    // A second may begin before the first request, and another end after the last one.
    let most = FORCED_PER_SECOND * (2.0 + begun.elapsed().as_secs_f64());
    let rejects = kafka::records(&world.stack.kafka_brokers, &world.rejects_topic).await?;
    ensure!(rejects.len() == REJECTS + FLOOD - 1, "{} rejects", rejects.len());
    let named = rejects.iter().filter_map(|reject| reject.header("traceparent"));
    let recorded: BTreeSet<_> = named.filter(|named| named.ends_with("-01")).collect();
    let count = recorded.len();
    ensure!(count > 0 && count as f64 <= most, "{count} spans of at most {most:.0}");
    let id = trace_of(&first)?;
    let whole = trace(&world, &id, |trace| trace.one("POST /upload_health_data").is_ok()).await?;
    ensure!(whole.spans.len() == 1, "{} spans of one request", whole.spans.len());
    finish(world, [gateway]).await
}
