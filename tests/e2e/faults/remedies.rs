//! Provokes each kind of database error on the real server and tests its remedy.

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::stack::wait::eventually;
use serde_json::{Value, json};

use crate::support::{AT, RECOVERED_WITHIN, finish, letters, pipeline, send, settled, totals};

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_reading_is_dead_lettered_and_the_rest_is_stored() -> Result<()> {
    let (world, gateway, worker) = pipeline("poison").await?;
    // The real column takes every value of a valid reading. A narrower column rejects some.
    world.database.execute("ALTER TABLE t_user_health_data MODIFY heart_rate TINYINT NULL").await?;
    let device = world.device(1);
    send(&gateway, &device, AT, &[80, 81, 200, 82, 83, 201, 84]).await?;
    settled(&world).await?;
    ensure!(totals(&world).await? == (5, 2), "{:?}", totals(&world).await?);
    let kept = letters(&world).await?;
    ensure!(kept.len() == 2, "{} letters", kept.len());
    for (letter, rate) in kept.iter().zip([200, 201]) {
        let reading: Value = serde_json::from_slice(&letter.value)?;
        ensure!(reading["heart_rate"] == rate, "{reading}");
        ensure!(letter.key.as_deref() == Some(device.as_bytes()), "the key is kept");
        ensure!(letter.header("traceparent").is_some(), "the original headers are kept");
        ensure!(letter.header("dlq.error.class").as_deref() == Some("data"));
        let code = letter.header("dlq.error.code").context("code")?;
        ensure!(code == "1264/22003", "{code}");
        ensure!(letter.header("dlq.source.topic").as_ref() == Some(&world.readings_topic));
    }
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_delivery_does_not_cost_the_others_of_its_identity() -> Result<()> {
    let (world, gateway, worker) = pipeline("identity").await?;
    world.database.execute("ALTER TABLE t_user_health_data MODIFY heart_rate TINYINT NULL").await?;
    let device = world.device(1);
    let at = "2025-09-02 16:09:00";
    let body = json!({"data": [
        {"deviceSn": device, "timestamp": at, "heart_rate": 80, "step": 1},
        {"deviceSn": device, "timestamp": at, "heart_rate": 200, "step": 2},
        {"deviceSn": device, "timestamp": at, "blood_oxygen": 97},
    ]});
    let answer = http::post(&gateway.url("/upload_health_data"), body.to_string()).await?;
    ensure!(answer.json["details"]["success"] == 3, "{}", answer.text);
    settled(&world).await?;
    let row = world
        .database
        .row("SELECT heart_rate, step, blood_oxygen, deliveries FROM t_user_health_data")
        .await?;
    let row: Vec<_> = row.into_iter().map(|value| value.unwrap_or("NULL".into())).collect();
    ensure!(row == ["80", "1", "97", "2"], "{row:?}");
    ensure!(totals(&world).await? == (1, 1), "{:?}", totals(&world).await?);
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_holds_everything_says_so_and_resumes_by_itself() -> Result<()> {
    let (world, gateway, worker) = pipeline("schema").await?;
    world.database.execute("RENAME TABLE t_user_health_data TO away").await?;
    send(&gateway, &world.device(1), AT, &[80, 81, 82]).await?;
    eventually(RECOVERED_WITHIN, "the health endpoint names what is missing", || async {
        let answer = http::get(&worker.admin("/api/batch_processor/health")).await?;
        let named = answer.text.contains("t_user_health_data");
        Ok((named && answer.json["status"] == "degraded").then_some(()))
    })
    .await?;
    ensure!(http::get(&worker.admin("/livez")).await?.status == 200, "the worker stays alive");
    ensure!(totals(&world).await? == (0, 0) && letters(&world).await?.is_empty(), "nothing moves");
    world.database.execute("RENAME TABLE away TO t_user_health_data").await?;
    settled(&world).await?;
    ensure!(totals(&world).await? == (3, 0), "{:?}", totals(&world).await?);
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refusals_opens_the_breaker_and_waits_instead() -> Result<()> {
    let (world, gateway, worker) = pipeline("flood").await?;
    let worker = {
        worker.terminate().await?;
        world.worker().env("DEAD_LETTERS_CONSECUTIVE_MAX", "5").start().await?
    };
    world.database.execute("ALTER TABLE t_user_health_data MODIFY heart_rate TINYINT NULL").await?;
    send(&gateway, &world.device(1), AT, &[200; 20]).await?;
    eventually(RECOVERED_WITHIN, "the breaker opens", || async {
        let answer = http::get(&worker.admin("/api/batch_processor/health")).await?;
        Ok((answer.status == 503 && answer.text.contains("breaker")).then_some(()))
    })
    .await?;
    ensure!(letters(&world).await?.is_empty(), "a backlog beats a topic emptied into letters");
    world.database.execute("ALTER TABLE t_user_health_data MODIFY heart_rate INT NULL").await?;
    settled(&world).await?;
    ensure!(totals(&world).await? == (20, 0), "{:?}", totals(&world).await?);
    finish(world, [gateway, worker]).await
}
