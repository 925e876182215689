//! `worker where`: tells what became of one reading, wherever it is.

use anyhow::{Context, Result, ensure};
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::clients::http;
use ljwx_tests::fakes::wechat::NURSE;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::{Value, json};

use crate::support::{
    SOON, alerting, delivered, evaluated, finish, measure, pipeline, seeded, settled,
};

/// Runs `worker where` and returns its exit code and its output.
async fn where_is(
    world: &World,
    device: &str,
    at: &str,
    arguments: &[&str],
) -> Result<(Option<i32>, String)> {
    let identity = ["where", "--device", device, "--at", at];
    let done = world.launch("worker", &[&identity, arguments].concat()).finish().await?;
    Ok((done.code, done.text))
}

/// Waits until `worker where` ends with this code and prints all these lines: Redis and the outbox
/// follow a moment after the commit.
async fn tells(world: &World, device: &str, at: &str, code: i32, lines: &[&str]) -> Result<String> {
    eventually(SOON, &format!("{device} at {at}: {lines:?}"), || async {
        let (found, text) = where_is(world, device, at, &[]).await?;
        ensure!(found == Some(code), "exit {found:?}: {text}");
        for line in lines {
            ensure!(text.contains(line), "{line:?} is not in: {text}");
        }
        Ok(Some(text))
    })
    .await
}

async fn post(gateway: &Service, device: &str, at: &str, rate: i32) -> Result<()> {
    let body = json!({"data": {"deviceSn": device, "timestamp": at, "heart_rate": rate}});
    http::post(&gateway.url("/upload_health_data"), body.to_string()).await?;
    Ok(())
}

/// Sends a body that only a replay can read, and replays it.
async fn replay_reject(world: &World, gateway: &Service, device: &str, at: &str) -> Result<()> {
    let item = json!({"deviceSn": device, "timestamp": at, "heart_rate": 70});
    let mut broken = zstd::bulk::compress(item.to_string().as_bytes(), 0)?;
    broken.extend(b"trailing");
    let url = gateway.url("/upload_health_data");
    http::post_with(&url, broken, &[("content-encoding", "zstd")]).await?;
    let replay = ["dlq", "--topic", "rejects", "--class", "malformed_body", "replay"];
    let done = world.launch("worker", &replay).finish().await?;
    ensure!(done.code == Some(0), "{:?}: {}", done.code, done.text);
    ensure!(done.text.contains("1 reading(s) sent"), "{}", done.text);
    settled(world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn where_tells_what_became_of_each_reading() -> Result<()> {
    let (world, gateway, worker) = pipeline("where").await?;
    let narrow = "ALTER TABLE t_user_health_data MODIFY heart_rate TINYINT NULL";
    world.database.execute(narrow).await?;
    let now = jiff::Timestamp::now().as_second();
    let (at, ahead) = (wall_time(now - 60), wall_time(now + 3 * 24 * 3600));
    let [stored, dead, rejected, unknown, waiting, replayed] =
        [1, 2, 3, 4, 5, 6].map(|n| world.device(n));
    post(&gateway, &stored, &at, 80).await?;
    settled(&world).await?;
    for (device, at, rate) in [(&stored, &at, 81), (&dead, &at, 200), (&rejected, &ahead, 80)] {
        post(&gateway, device, at, rate).await?;
    }
    settled(&world).await?;

    let lines = [
        "readings topic: 2 records",
        "rejects topic: 0 of this reading",
        "dead letters: 0 of this reading",
        "merged from 2 deliveries",
        "the group stands at",
        "redis: the hash shows this reading",
        "alerts: no alert was opened or changed at this time",
    ];
    tells(&world, &stored, &at, 0, &lines).await?;
    let lines = [
        "readings topic: 1 record",
        "dead letters: 1 of this reading",
        "Out of range value for column 'heart_rate'",
        "row: none",
        "redis: the device has no hash",
    ];
    tells(&world, &dead, &at, 0, &lines).await?;
    let lines = [
        "readings topic: 0 records",
        "rejects topic: 1 of this reading",
        "out_of_range",
        "row: none",
    ];
    tells(&world, &rejected, &ahead, 0, &lines).await?;
    replay_reject(&world, &gateway, &replayed, &at).await?;
    let id = format!("SELECT id FROM t_user_health_data WHERE device_sn = '{replayed}'");
    let id = world.database.number(&id).await?;
    let place = format!("{}/{}", id >> 40, id % (1 << 40));
    let record = format!("  {place}  received ");
    let row = format!("row: stored from {place}, a replayed reject, merged from 1 delivery");
    let lines = ["readings topic: 1 record", &record, "replay 1 of a reject", &row];
    tells(&world, &replayed, &at, 0, &lines).await?;
    let lines = ["readings topic: 0 records", "row: none", "traces: none"];
    tells(&world, &unknown, &at, 1, &lines).await?;
    // The device has a newer reading and none of this time.
    let earlier = wall_time(now - 61);
    tells(&world, &stored, &earlier, 1, &["redis: the hash shows a newer reading"]).await?;

    ensure!(worker.terminate().await?.success(), "the worker failed");
    post(&gateway, &waiting, &at, 80).await?;
    tells(&world, &waiting, &at, 0, &[" waits: ", "row: none"]).await?;
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn where_says_which_part_is_unknown_and_goes_on() -> Result<()> {
    let (world, gateway, worker) = pipeline("wherehalf").await?;
    let (device, at) = (world.device(1), wall_time(jiff::Timestamp::now().as_second() - 60));
    post(&gateway, &device, &at, 80).await?;
    settled(&world).await?;
    let identity = ["where", "--device", &device, "--at", &at];
    let silent = world.launch("worker", &identity).env("REDIS_URL", "redis://127.0.0.1:9");
    let silent = silent.finish().await?;
    ensure!(silent.code == Some(3), "{:?}: {}", silent.code, silent.text);
    ensure!(silent.text.contains("redis: unknown: Redis is unreachable"), "{}", silent.text);
    ensure!(silent.text.contains("merged from 1 delivery"), "{}", silent.text);
    let unset = world.launch("worker", &identity).env("REDIS_URL", "").finish().await?;
    ensure!(unset.code == Some(0), "{:?}: {}", unset.code, unset.text);
    ensure!(unset.text.contains("redis: not asked: REDIS_URL is not set"), "{}", unset.text);
    let alone = world.launch("worker", &[&identity[..], &["--timeout", "20s"]].concat());
    let alone = alone.env("MYSQL_URL", "mysql://root@127.0.0.1:9/none").finish().await?;
    ensure!(alone.code == Some(3), "{:?}: {}", alone.code, alone.text);
    for line in ["row: unknown: ", "readings topic: 1 record", "these offsets are Kafka's own"] {
        ensure!(alone.text.contains(line), "{line:?} is not in: {}", alone.text);
    }

    let (code, text) = where_is(&world, &device, &at, &["--json", "--all-partitions"]).await?;
    // Log lines follow the report.
    let report = serde_json::Deserializer::from_str(&text).into_iter::<Value>().next();
    let report = report.transpose()?.with_context(|| text.clone())?;
    ensure!(code == Some(0), "{code:?}: {report:#}");
    let readings = &report["readings"]["known"];
    ensure!(readings["matches"][0]["offset"] == 0, "{report:#}");
    let searched = readings["searched"].as_array().context("searched")?;
    ensure!(searched.len() == world.partitions(), "{report:#}");
    ensure!(report["row"]["known"]["deliveries"] == 1, "{report:#}");

    let wrong = world.launch("worker", &["where", "--device", "a b", "--at", "soon"]);
    let wrong = wrong.finish().await?;
    ensure!(wrong.code == Some(2), "{:?}: {}", wrong.code, wrong.text);
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn where_names_the_alert_that_a_reading_opened_and_who_was_notified() -> Result<()> {
    let (world, wechat) = seeded("wherealert").await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    let (device, end) = (world.device(1), jiff::Timestamp::now().as_second() - 300);
    measure(&gateway, &device, end, &[80, 130, 131, 132]).await?;
    delivered(&wechat, 1).await?;
    evaluated(&world).await?;
    let notified = format!("of opened to openid:{NURSE}: sent");
    let lines = [
        "readings topic: 1 record",
        "waits: no worker has claimed the partition",
        "alerts: 1 alert opened or changed at this time",
        "HEARTRATE_HIGH_ALERT, major",
        &notified,
    ];
    tells(&world, &device, &wall_time(end), 0, &lines).await?;
    // The reading before only came nearer to the episode.
    let lines = ["alerts: no alert was opened or changed at this time"];
    tells(&world, &device, &wall_time(end - 15), 0, &lines).await?;
    finish(world, [gateway, alerter]).await
}
