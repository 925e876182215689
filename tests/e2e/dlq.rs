//! What did not get through: found, looked at, sent back, without turning time back.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::http;
use tests::wait::eventually;
use tests::world::World;

use crate::faults::SOON;
use crate::remedies::{finish, pipeline, settled, totals};

async fn dlq(world: &World, arguments: &[&str]) -> Result<String> {
    let done = world.launch("worker", &[&["dlq"], arguments].concat()).finish().await?;
    ensure!(done.code == Some(0), "worker dlq {arguments:?}: {:?}\n{}", done.code, done.text);
    Ok(done.text)
}

fn says(text: &str, what: &str) -> Result<()> {
    ensure!(text.contains(what), "{what:?} is not in: {text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_goes_back_once_and_never_over_newer_values() -> Result<()> {
    let (world, gateway, worker) = pipeline("dlq").await?;
    let narrow = "ALTER TABLE t_user_health_data MODIFY heart_rate TINYINT NULL";
    world.database.execute(narrow).await?;
    let (first, second) = (world.device(1), world.device(2));
    let at = "2025-09-02 16:09:00";
    let url = gateway.url("/upload_health_data");
    let refused = json!({"data": [
        {"deviceSn": first, "timestamp": at, "heart_rate": 200, "step": 1},
        {"deviceSn": second, "timestamp": at, "heart_rate": 210},
    ]});
    let newer =
        json!({"data": {"deviceSn": first, "timestamp": at, "heart_rate": 90, "blood_oxygen": 97}});
    // One after the other: merged in one batch, the 90 would replace the 200 before any server refused it.
    for (body, expected) in [(refused, (0, 2)), (newer, (1, 2))] {
        let answer = http::post(&url, body.to_string()).await?;
        ensure!(answer.status == 200, "{}", answer.text);
        settled(&world).await?;
        ensure!(totals(&world).await? == expected, "{:?}", totals(&world).await?);
    }

    let listed = dlq(&world, &["list"]).await?;
    says(&listed, "2 record(s)")?;
    says(&listed, "Out of range value for column 'heart_rate'")?;
    says(&dlq(&world, &["list", "--device", &first]).await?, "1 record(s)")?;
    says(&dlq(&world, &["list", "--class", "undecodable"]).await?, "0 record(s)")?;
    says(&dlq(&world, &["list", "--to", "2020-01-01 00:00:00"]).await?, "0 record(s)")?;

    world.database.execute("ALTER TABLE t_user_health_data MODIFY heart_rate INT NULL").await?;
    says(&dlq(&world, &["replay", "--dry-run"]).await?, "2 reading(s) would be sent")?;
    says(&dlq(&world, &["replay"]).await?, "2 reading(s) sent")?;
    settled(&world).await?;
    says(&dlq(&world, &["replay"]).await?, "0 reading(s) sent")?;
    ensure!(totals(&world).await? == (2, 2), "{:?}", totals(&world).await?);
    let rows = world
        .database
        .rows("SELECT heart_rate, step, blood_oxygen, deliveries FROM t_user_health_data ORDER BY device_sn")
        .await?;
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| row.into_iter().map(|value| value.unwrap_or("-".into())).collect())
        .collect();
    // The later delivery's 90 stands; what only the earlier one had is filled in.
    ensure!(rows == [["90", "1", "97", "2"], ["210", "-", "-", "1"]], "{rows:?}");
    eventually(SOON, "Redis shows what was replayed", || async {
        let hash = world.cache.newest(&second).await?;
        Ok((hash.get("heart_rate").map(String::as_str) == Some("210")).then_some(()))
    })
    .await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reject_is_parsed_anew_and_old_ones_can_be_deleted() -> Result<()> {
    let (world, gateway, worker) = pipeline("rejects").await?;
    let url = gateway.url("/upload_health_data");
    let long = format!("{{\"data\":[\"{}\"", "z".repeat(70_000));
    let cut = json!({"deviceSn": world.device(1), "heart_rate": 80, "sleepData": long});
    http::post(&url, json!({"data": [cut, {"heart_rate": 70}]}).to_string()).await?;
    settled(&world).await?;
    let rejects = ["--of", "rejects"];
    let run = async |rest: &[&str]| dlq(&world, &[&rejects, rest].concat()).await;
    says(&run(&["list"]).await?, "2 record(s)")?;
    says(&run(&["list", "--class", "missing_device_sn"]).await?, "1 record(s)")?;
    let told = run(&["replay"]).await?;
    says(&told, "1 reading(s) sent, 1 record(s) still unreadable")?;
    settled(&world).await?;
    // The time that was missing is derived as it was then, so it is the same reading.
    let deliveries =
        world.database.number("SELECT SUM(deliveries) FROM t_user_health_data").await?;
    ensure!(totals(&world).await?.0 == 1 && deliveries == 2, "{deliveries} deliveries");
    says(&run(&["purge", "--to", "2099-01-01 00:00:00"]).await?, "would be deleted")?;
    says(&run(&["list"]).await?, "2 record(s)")?;
    says(&run(&["purge", "--to", "2099-01-01 00:00:00", "--execute"]).await?, "2 record(s)")?;
    says(&run(&["list"]).await?, "0 record(s)")?;
    finish(world, [gateway, worker]).await
}
