//! The gateway's answers at its bounds, and the rejects that it keeps.

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::http::{self, ANSWER_WITHIN, Answer};
use ljwx_tests::clients::kafka::{self, Record, TopicReader};
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::world::World;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{finish, pipeline, settled, world};

const DEVICES: &str = "/upload_health_data";
const API: &str = "/v1/readings";

async fn gateway(name: &str) -> Result<(World, Service)> {
    let world = world(name).await?;
    let gateway = world.gateway().env("BODY_BYTES_MAX", "200000").start().await?;
    Ok((world, gateway))
}

async fn rejects(world: &World) -> Result<Vec<Record>> {
    kafka::records(&world.stack.kafka_brokers, &world.rejects_topic).await
}

async fn readings(world: &World) -> Result<Vec<Record>> {
    kafka::records(&world.stack.kafka_brokers, &world.readings_topic).await
}

fn header_bytes(record: &Record) -> usize {
    record.headers.iter().map(|(key, value)| key.len() + value.len()).sum()
}

fn details(answer: &Answer) -> [i64; 3] {
    ["success", "duplicate", "error"]
        .map(|name| answer.json["details"][name].as_i64().unwrap_or(-1))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_and_its_connection_closed() -> Result<()> {
    let (world, gateway) = gateway("limit").await?;
    let large = format!("{{\"data\":\"{}\"}}", "x".repeat(1_000_000));
    for route in [DEVICES, API] {
        let answer = http::post(&gateway.url(route), large.clone()).await?;
        ensure!(answer.status == 413, "{}", answer.status);
        ensure!(answer.header("connection") == Some("close"), "{:?}", answer.headers);
    }
    ensure!(rejects(&world).await?.is_empty(), "a refused body is still with its sender");
    let code = "code=\"payload_too_large\"";
    ensure!(gateway.metric("gateway_refusals_total", code).await? >= 2.0);
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_chunks_that_are_no_http_is_malformed_and_not_slow() -> Result<()> {
    let (world, gateway) = gateway("chunks").await?;
    let address = gateway.listen().context("the gateway listens")?;
    for route in [DEVICES, API] {
        let mut connection = TcpStream::connect(address).await?;
        let head =
            format!("POST {route} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
        connection.write_all(format!("{head}no size\r\n").as_bytes()).await?;
        let mut answer = String::new();
        timeout(ANSWER_WITHIN, connection.read_to_string(&mut answer)).await??;
        ensure!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        ensure!(answer.contains("\"code\":\"malformed_body\""), "{answer}");
    }
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_readings_cost_a_device_nothing_but_this_body() -> Result<()> {
    let (world, gateway) = gateway("many").await?;
    let many = Value::from(vec![json!({"id": world.device(1)}); 1001]).to_string();
    let answer = http::post(&gateway.url(DEVICES), many.clone()).await?;
    ensure!(answer.status == 200 && details(&answer) == [0, 0, 1], "{}", answer.text);
    let kept = rejects(&world).await?;
    ensure!(kept.len() == 1 && kept[0].value == many.as_bytes(), "the body is kept as it came");
    ensure!(kept[0].header("code").as_deref() == Some("too_many_readings"), "{:?}", kept[0]);
    ensure!(http::post(&gateway.url(API), many).await?.status == 422, "a client gets an error");
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_from_a_reading_is_kept_whole() -> Result<()> {
    let (world, gateway) = gateway("cut").await?;
    let item = json!({
        "deviceSn": world.device(1), "heart_rate": 80, "timestamp": "2025-09-02 16:09:00",
        "sleepData": format!("{{\"data\":[\"{}\"", "z".repeat(70_000)),
    })
    .to_string();
    let answer = http::post(&gateway.url(DEVICES), format!("{{\"data\":{item}}}")).await?;
    ensure!(answer.json["details"]["success"] == 1, "{}", answer.text);
    ensure!(answer.json["details"]["results"][0]["code"] == "too_large", "{}", answer.text);
    let kept = rejects(&world).await?;
    ensure!(kept.len() == 1 && kept[0].value == item.as_bytes(), "the item is kept verbatim");
    ensure!(kept[0].header("code").as_deref() == Some("field_dropped"), "{:?}", kept[0].headers);
    let stored: Value = serde_json::from_slice(&readings(&world).await?[0].value)?;
    ensure!(stored["heart_rate"] == 80 && stored.get("sleep_data").is_none(), "{stored}");

    // Without its cut part, the second item says what the first says.
    let plain = json!({"deviceSn": world.device(2), "heart_rate": 80,
                       "timestamp": "2025-09-02 16:09:00"})
    .to_string();
    let second = item.replace(&world.device(1), &world.device(2));
    let answer = http::post(&gateway.url(DEVICES), format!("[{plain},{second}]")).await?;
    ensure!(details(&answer) == [2, 0, 0], "{}", answer.text);
    // Two devices may be in two partitions, which are read in no particular order.
    let kept = rejects(&world).await?;
    let cut = kept.iter().filter(|reject| reject.value == second.as_bytes()).count();
    ensure!(kept.len() == 2 && cut == 1, "the cut part is kept");
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_surrogate_pair_costs_only_the_field_that_has_it() -> Result<()> {
    let (world, gateway, worker) = pipeline("surrogate").await?;
    let (ignored, known) = (world.device(1), world.device(2));
    let time = r#""timestamp":"2025-09-02 16:09:00""#;
    let body = format!(
        r#"{{"\ud800":1,"data":[
           {{"id":"{ignored}","step":1,{time},"\udc00":{{"a":"\ud800"}}}},
           {{"id":"{known}","step":2,{time},"heart_rate":"\ud800"}}]}}"#
    );
    let answer = http::post(&gateway.url(DEVICES), body).await?;
    ensure!(details(&answer) == [2, 0, 0], "{}", answer.text);
    let results = answer.json["details"]["results"].as_array().context("results")?;
    let of_known = results.iter().all(|result| {
        result["device_sn"] == known
            && result["field"] == "heart_rate"
            && result["code"] == "invalid"
    });
    ensure!(results.len() == 1 && of_known, "{}", answer.text);
    ensure!(rejects(&world).await?.is_empty(), "no item is rejected");
    settled(&world).await?;
    let sql = "SELECT device_sn, step, heart_rate FROM t_user_health_data ORDER BY 1";
    let rows = world.database.rows(sql).await?;
    let row = |device: String, step: &str| vec![Some(device), Some(step.to_owned()), None];
    ensure!(rows == [row(ignored, "1"), row(known, "2")], "{rows:?}");
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_of_one_device_keep_their_order_and_no_stranger_s_trace() -> Result<()> {
    let (world, gateway) = gateway("order").await?;
    let device = world.device(1);
    let items: Vec<Value> = (0..300).map(|n| json!({"id": device, "step": n})).collect();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let traceparent = format!("00-{trace}-b7ad6b7169203331-01");
    let member = |n: usize| format!("v{n:0>200}={}", "x".repeat(256));
    let tracestate = (0..28).map(member).collect::<Vec<_>>().join(",");
    let headers = [("traceparent", traceparent.as_str()), ("tracestate", &tracestate)];
    let body = Value::from(items).to_string();
    let other = json!({"id": world.device(2), "step": 1}).to_string();
    ensure!(http::post_with(&gateway.url(API), other, &headers).await?.status == 200);
    ensure!(readings(&world).await?.iter().all(|record| header_bytes(record) <= 160));
    let mut reader =
        TopicReader::from_now(&world.stack.kafka_brokers, &world.readings_topic).await?;
    let answer = http::post_with(&gateway.url(DEVICES), body, &headers).await?;
    ensure!(details(&answer) == [300, 0, 0], "{}", answer.text);
    let listed = answer.json["details"]["results"].as_array().context("results")?.len();
    ensure!(listed == 100, "at most 100 results, not {listed}");
    let records = reader.read_new().await?;
    let request = answer.json["request_id"].as_str().context("request_id")?;
    ensure!(answer.header("x-request-id") == Some(request), "{:?}", answer.headers);
    ensure!(records.len() == 300 && records.iter().all(|r| r.partition == records[0].partition));
    for (step, record) in records.iter().enumerate() {
        let reading: Value = serde_json::from_slice(&record.value)?;
        ensure!(reading["step"] == step, "{reading} at {step}");
        let sent = record.header("traceparent").context("traceparent")?;
        ensure!(sent.contains(request) && !sent.contains(trace), "{sent}");
        ensure!(record.header("tracestate").is_none() && header_bytes(record) <= 160);
    }
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_hears_what_http_has_words_for_and_keeps_its_data() -> Result<()> {
    let (world, gateway) = gateway("client").await?;
    let url = gateway.url(API);
    let client = reqwest::Client::builder().no_proxy().build()?;
    let text = client.post(&url).header("content-type", "text/plain").body("{}").send().await?;
    ensure!(text.status() == 415, "{}", text.status());
    for (body, status) in [("nope", 400), ("", 400), ("{\"data\":[7]}", 422)] {
        let answer = http::post(&url, body).await?;
        ensure!(answer.status == status, "{body}: {}", answer.status);
        let kind = answer.header("content-type").unwrap_or_default();
        ensure!(kind == "application/problem+json", "{kind}");
    }
    ensure!(rejects(&world).await?.is_empty(), "nothing of a client's is kept");
    finish(world, [gateway]).await
}
