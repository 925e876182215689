//! The walk-throughs of the runbook, as Jaeger's API answers them: each end is found from the
//! other.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::clients::jaeger::{self, Trace, trace};
use ljwx_tests::clients::kafka;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;
use serde_json::json;
use tokio::net::TcpListener;

use super::watched::{SOON, Watched};

/// The duration of a slow upload's body.
const SLOW: Duration = Duration::from_millis(700);

/// The delay of a slow batch.
const SLOW_BATCH: Duration = Duration::from_millis(1500);

/// The bits of a source that hold the offset. The partition is above them.
const OFFSET_BITS: i64 = 40;

/// Waits for the trace that `find` chooses among the results of a search.
async fn search(
    world: &World,
    asked: &[(&str, &str)],
    find: impl Fn(&Trace) -> bool,
) -> Result<Trace> {
    let find = &find;
    eventually(SOON, &format!("a trace for {asked:?}"), || async move {
        let found = jaeger::search(world, asked).await?;
        Ok(found.into_iter().find(|trace| find(trace)))
    })
    .await
}

fn has(trace: &Trace, names: &[&str]) -> bool {
    names.iter().all(|name| trace.one(name).is_ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_devices_slow_upload_to_its_batch() -> Result<()> {
    let watched = Watched::start("walkslow", |launch| launch).await?;
    let world = &watched.world;
    let device = world.device(1);
    let address = watched.gateway.listen().context("an address")?;
    let body = json!({"data": {"deviceSn": device, "heart_rate": 70}}).to_string();
    let answer = http::post_slowly(address, "/upload_health_data", &body, SLOW).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let send = format!("send {}", world.readings_topic);
    let asked = [
        ("service", "gateway"),
        ("operation", "POST /upload_health_data"),
        ("minDuration", "500ms"),
    ];
    let upload = search(world, &asked, |trace| {
        trace.named(&send).any(|span| span.attribute("device.id") == Some(&device))
    })
    .await?;
    let process = format!("process {}", world.readings_topic);
    let id = &upload.spans[0].trace;
    let upload = trace(world, id, |trace| has(trace, &[&process])).await?;
    let process = upload.one(&process)?;
    let (batch_trace, batch_span) = process.links.first().context("no link to a batch")?;
    let batch = trace(world, batch_trace, |trace| has(trace, &["batch_processing"])).await?;
    let span = batch.one("batch_processing")?;
    ensure!(&span.id == batch_span, "{span:?}");
    ensure!(span.attribute("batch.id") == process.attribute("batch.id"), "{process:?} {span:?}");
    watched.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_slow_batch_to_its_readings() -> Result<()> {
    let watched = Watched::start("walkbatch", |launch| launch).await?;
    let world = &watched.world;
    let lock = world.database.lock("ingest_progress").await?;
    let items: Vec<_> =
        (0..5).map(|number| json!({"deviceSn": world.device(number), "heart_rate": 70})).collect();
    let body = json!({ "data": items }).to_string();
    let answer = http::post(&watched.gateway.url("/upload_health_data"), body).await?;
    ensure!(answer.status == 200, "{}", answer.text);
    let waiting = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                   WHERE db = DATABASE() AND id <> CONNECTION_ID() \
                   AND info LIKE 'SELECT % INTO @counted_from,%'";
    eventually(SOON, "a batch waits for the ledger", || async {
        Ok((world.database.number(waiting).await? > 0).then_some(()))
    })
    .await?;
    pass(SLOW_BATCH).await;
    lock.release().await?;
    let process = format!("process {}", world.readings_topic);
    let tags = json!({ "messaging.destination.name": world.readings_topic }).to_string();
    let slow = ("minDuration", "1s");
    let asked = [("service", "worker"), ("operation", "batch_processing"), slow, ("tags", &tags)];
    let batch = search(world, &asked, |trace| has(trace, &["batch_processing"])).await?;
    let span = batch.one("batch_processing")?;
    let id = span.attribute("batch.id").context("no batch.id")?;
    let linked: usize = span.attribute("batch.links").context("no batch.links")?.parse()?;
    ensure!(linked > 0 && span.links.len() == linked, "{span:?}");
    let tags = json!({ "batch.id": id }).to_string();
    let asked = [("service", "worker"), ("operation", &process), ("tags", &tags)];
    let readings = search(world, &asked, |trace| {
        let own = trace.named(&process).filter(|span| span.attribute("batch.id") == Some(id));
        own.count() == linked
    })
    .await?;
    let request = readings.one("POST /upload_health_data")?;
    ensure!(span.links.iter().all(|(trace, _)| *trace == request.trace), "{span:?}");
    watched.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn from_an_alert_to_the_reading_that_caused_it() -> Result<()> {
    let watched = Watched::start("walkalert", |launch| launch).await?;
    let world = &watched.world;
    watched.measure(1, &[130, 131, 132]).await?;
    let alert = "SELECT a.health_id, a.dedup_key, o.traceparent FROM t_alert_info a \
                 JOIN t_alert_outbox o ON o.episode_key = a.dedup_key WHERE o.state = 'sent'";
    let row = eventually(SOON, "a notified alert", || async {
        Ok(world.database.rows(alert).await?.into_iter().next())
    })
    .await?;
    let [health_id, key, parent] = &row[..] else { anyhow::bail!("{row:?}") };
    let health_id: i64 = health_id.as_deref().context("no reading")?.parse()?;
    let (partition, offset) = (health_id >> OFFSET_BITS, health_id & ((1 << OFFSET_BITS) - 1));
    let parent = parent.as_deref().context("no trace")?;
    let id = parent.split('-').nth(1).context("no trace id")?;
    let send = format!("send {}", world.readings_topic);
    let names = [send.as_str(), "POST /upload_health_data", "alert_check", "notify"];
    let found = trace(world, id, |trace| has(trace, &names)).await?;
    let check = found.one("alert_check")?;
    ensure!(check.attribute("alert.episode_key") == key.as_deref(), "{check:?}");
    let reading = found.one(&send)?;
    ensure!(check.parent.as_ref() == Some(&reading.id), "{check:?}");
    for span in [check, reading] {
        let place = [
            span.attribute("messaging.destination.partition.id").unwrap_or_default(),
            span.attribute("messaging.kafka.offset").unwrap_or_default(),
        ];
        ensure!(place == [partition.to_string(), offset.to_string()], "{place:?}: {span:?}");
    }
    watched.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_dead_letter_to_its_request() -> Result<()> {
    let watched = Watched::start("walkletter", |launch| launch).await?;
    let world = &watched.world;
    watched.narrow().await?;
    watched.measure(1, &[200]).await?;
    let topic = format!("{}.{}.dlq", world.readings_topic, world.worker_group);
    let letter = eventually(SOON, "a dead letter", || async {
        Ok(kafka::records(&world.stack.kafka_brokers, &topic).await?.into_iter().next())
    })
    .await?;
    let parent = letter.header("traceparent").context("no traceparent")?;
    let id = parent.split('-').nth(1).context("no trace id")?;
    let dead = format!("send {topic}");
    let found = trace(world, id, |trace| has(trace, &["POST /upload_health_data", &dead])).await?;
    let dead = found.one(&dead)?;
    ensure!(dead.attribute("batch.id") == letter.header("dlq.batch.id").as_deref(), "{dead:?}");
    ensure!(dead.attribute("error.type") == Some("data"), "{dead:?}");
    watched.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_will_ask_about_is_traced_whatever_the_ratio() -> Result<()> {
    let watched =
        Watched::start("walkratio", |launch| launch.env("TRACE_SAMPLE_RATIO", "0")).await?;
    let world = &watched.world;
    let url = watched.gateway.url("/upload_health_data");
    watched.narrow().await?;
    watched.measure(1, &[121, 122, 123]).await?;
    watched.measure(2, &[200]).await?;
    let nobody = json!({"data": {"deviceSn": "", "heart_rate": 70}}).to_string();
    http::post(&url, nobody).await?;
    let rejected = eventually(SOON, "a reject", || async {
        let rejects = kafka::records(&world.stack.kafka_brokers, &world.rejects_topic).await?;
        Ok(rejects.into_iter().next())
    })
    .await?;
    let parent = rejected.header("traceparent").context("no traceparent")?;
    ensure!(parent.ends_with("-01"), "{parent}");
    let id = parent.split('-').nth(1).context("no trace id")?;
    trace(world, id, |trace| has(trace, &["POST /upload_health_data"])).await?;

    let alerter = [("service", "alerter"), ("operation", "alert_check")];
    let alert = search(world, &alerter, |trace| {
        let own = trace.named("alert_check");
        own.into_iter().any(|span| span.attribute("device.id") == Some(&world.device(1)))
    })
    .await?;
    trace(world, &alert.spans[0].trace, |trace| has(trace, &["notify"])).await?;
    let topic = format!("{}.{}.dlq", world.readings_topic, world.worker_group);
    let letter = format!("send {topic}");
    search(world, &[("service", "worker"), ("operation", &letter)], |trace| has(trace, &[&letter]))
        .await?;
    let plain = format!("process {}", world.readings_topic);
    let asked = [("service", "worker"), ("operation", plain.as_str())];
    let traces = jaeger::search(world, &asked).await?;
    ensure!(traces.is_empty(), "what nobody asks about is not recorded");
    watched.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_costs_nothing_but_counted_spans() -> Result<()> {
    // The collector accepts connections and does nothing else.
    let collector = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", collector.local_addr()?);
    let watched =
        Watched::start("walkmute", |launch| launch.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint))
            .await?;
    let load = watched.load();
    eventually(SOON, "spans are counted as lost", || async {
        let mut lost = 0.0;
        for service in [&watched.gateway, &watched.worker] {
            lost += service.metric("spans_total", "outcome=\"failed\"").await?;
        }
        Ok((lost > 0.0).then_some(()))
    })
    .await?;
    let acknowledged = eventually(SOON, "readings are acknowledged all the same", || async {
        let acknowledged = load.acknowledged();
        Ok((acknowledged > 100).then_some(acknowledged))
    })
    .await?;
    drop(load);
    eventually(SOON, "all of it is stored", || async {
        Ok((watched.world.lag().await? == 0).then_some(()))
    })
    .await?;
    eventually(SOON, "all of it is counted", || async {
        let stored = watched.worker.metric("readings_total", "outcome=\"stored\"").await?;
        let merged = watched.worker.metric("readings_total", "outcome=\"merged\"").await?;
        ensure!(stored + merged >= acknowledged as f64, "{stored} stored, {merged} merged");
        Ok(Some(()))
    })
    .await?;
    watched.end().await
}
