//! A dry run says what would be stored, and stores nothing.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::http::{self, Answer};
use ljwx_tests::clients::kafka;
use ljwx_tests::stack::world::World;
use serde_json::{Value, json};

use crate::support::{finish, gateway};

const DEVICES: &str = "/upload_health_data";
const API: &str = "/v1/readings";
const DRY_RUN: &str = "/v1/readings?dry_run=true";

/// The codes of items, in the order in which [`every_fault`] brings them about.
pub(super) const ITEM_CODES: [&str; 11] = [
    "invalid_item",
    "too_deep",
    "missing_device_sn",
    "invalid_device_sn",
    "invalid_timestamp",
    "timestamp_out_of_range",
    "missing",
    "invalid",
    "out_of_range",
    "too_large",
    "ahead_of_clock",
];

/// Rejected items of [`every_fault`], and the item of which a document was cut.
const KEPT: usize = 7;

async fn records(world: &World) -> Result<[usize; 2]> {
    let brokers = &world.stack.kafka_brokers;
    let readings = kafka::records(brokers, &world.readings_topic).await?.len();
    Ok([readings, kafka::records(brokers, &world.rejects_topic).await?.len()])
}

fn details(answer: &Answer) -> [i64; 3] {
    ["success", "duplicate", "error"]
        .map(|name| answer.json["details"][name].as_i64().unwrap_or(-1))
}

/// A body whose items have every code once.
pub(super) fn every_fault(world: &World) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let ahead = u64::try_from(now)? + 3_600_000;
    let device = world.device(1);
    let items = json!([
        7,
        {"data": {"data": {"data": {"data": 1}}}},
        {"heart_rate": 72},
        {"device_sn": "a b", "heart_rate": 72},
        {"device_sn": device, "timestamp": "yesterday"},
        {"device_sn": device, "timestamp": "1999-12-31 23:59:59"},
        {"device_sn": device, "heart_rate": "abc", "blood_oxygen": 720,
         "sleep_data": "x".repeat(70_000)},
        {"device_sn": device, "timestamp": ahead, "heart_rate": 72},
    ]);
    Ok(json!({ "data": items }).to_string())
}

/// Returns the codes in an answer's results.
fn codes(answer: &Answer) -> Vec<&str> {
    let results = answer.json["details"]["results"].as_array().into_iter().flatten();
    results.filter_map(|result| result["code"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_with_every_code_is_explained_and_only_a_dry_run_of_it_is_not_stored() -> Result<()>
{
    let (world, gateway) = gateway("dryrun").await?;
    let body = every_fault(&world)?;
    let dry = http::post(&gateway.url(DRY_RUN), body.clone()).await?;
    ensure!(dry.status == 200 && dry.json["dry_run"] == true, "{}", dry.text);
    ensure!(codes(&dry) == ITEM_CODES, "{}", dry.text);
    ensure!(details(&dry) == [2, 0, 6], "{}", dry.text);
    ensure!(dry.json["readings"].as_array().map(Vec::len) == Some(2), "{}", dry.text);
    ensure!(records(&world).await? == [0, 0], "a dry run has published records");
    for counter in ["gateway_readings_total", "gateway_rejections_total", "gateway_warnings_total"]
    {
        ensure!(gateway.metric(counter, "").await? == 0.0, "{counter} counts a dry run");
    }
    ensure!(gateway.metric("gateway_dry_runs_total", "").await? == 1.0);

    // An address that is mistyped into a device must not throw readings away.
    let url = gateway.url(&format!("{DEVICES}?dry_run=true"));
    let stored = http::post(&url, body).await?;
    ensure!(stored.status == 200 && codes(&stored) == ITEM_CODES, "{}", stored.text);
    ensure!(stored.json.get("dry_run").is_none(), "{}", stored.text);
    ensure!(records(&world).await? == [2, KEPT], "{:?}", records(&world).await?);
    finish(world, [gateway]).await
}

/// Returns the readings of a dry run without what depends on its moment, and their warnings.
fn echo(answer: &Answer) -> Result<(Vec<Value>, usize)> {
    let mut readings =
        answer.json["readings"].as_array().cloned().with_context(|| answer.text.clone())?;
    let mut warnings = 0;
    for reading in readings.iter_mut().filter_map(Value::as_object_mut) {
        reading.remove("received_at");
        let carried = reading.remove("warnings");
        warnings += carried.as_ref().and_then(Value::as_array).map_or(0, Vec::len);
    }
    Ok((readings, warnings))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readings_of_a_dry_run_are_those_of_a_real_one_and_echo_themselves() -> Result<()> {
    let (world, gateway) = gateway("echo").await?;
    let sleep = r#""startTimeStamp":1756742400000,"endTimeStamp":1756767600000"#;
    let body = json!([
        {"deviceSn": world.device(1), "cjsj": "2025-09-02 16:09:00",
         "customerId": "1900000000000000001", "uploadMethod": "4g",
         "xlv": "8.26E1", "bodyTemperature": 36.555, "gxy": 999, "jl": "820.50", "rl": 1e5,
         "wd": "22.540368", "jd": 114.015090,
         // The comma after the code is missing, as devices in the field send it.
         "smData": format!(r#"{{"code":"0"data":[{{{sleep}}}]}}"#),
         "workoutData": {"code": 0, "data": [{"calorie": 1.50, "distance": 9e2}]}},
        {"id": world.device(2), "timestamp": 1_756_800_540_000_i64, "exerciseDailyWeekData": [[1]]},
    ])
    .to_string();
    let first = http::post(&gateway.url(DRY_RUN), body.clone()).await?;
    let (readings, warnings) = echo(&first)?;
    ensure!(readings.len() == 2 && warnings == 1, "{}", first.text);
    let again = json!({ "data": first.json["readings"] }).to_string();
    let second = http::post(&gateway.url(DRY_RUN), again).await?;
    ensure!(echo(&second)? == (readings.clone(), 0), "{} becomes {}", first.text, second.text);
    ensure!(codes(&second).is_empty(), "{}", second.text);

    ensure!(http::post(&gateway.url(API), body).await?.status == 200);
    let published = kafka::records(&world.stack.kafka_brokers, &world.readings_topic).await?;
    ensure!(published.len() == readings.len(), "{} records", published.len());
    for record in published {
        let mut value: Value = serde_json::from_slice(&record.value)?;
        let members = value.as_object_mut().context("a reading")?;
        members.remove("received_at");
        members.remove("warnings");
        ensure!(readings.contains(&value), "{value} is not in {}", first.text);
    }
    finish(world, [gateway]).await
}
