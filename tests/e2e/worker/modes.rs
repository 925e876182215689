//! Operators pause workers. Workers stop at a changed topic until an operator has accepted it.

use anyhow::{Result, ensure};
use ljwx_tests::clients::{http, kafka};
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;

use crate::support::{SOON, finish, pipeline, send, settled};

/// Sends three readings, one of each kind of device, at a minute of their own.
async fn three(world: &World, gateway: &Service, minute: u32) -> Result<()> {
    for number in 1..=3 {
        send(gateway, &world.device(number), &format!("2025-09-02 16:{minute:02}"), &[80]).await?;
    }
    Ok(())
}

async fn rows(world: &World) -> Result<i64> {
    world.database.count("t_user_health_data").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_group_takes_nothing_until_it_is_resumed() -> Result<()> {
    let (world, gateway, worker) = pipeline("paused").await?;
    three(&world, &gateway, 1).await?;
    settled(&world).await?;
    let pause = ["pause", "--reason", "moving the tables"];
    ensure!(world.launch("worker", &pause).finish().await?.code == Some(0), "pause failed");
    eventually(SOON, "the worker says that it is paused", || async {
        let answer = http::get(&worker.admin("/api/batch_processor/health")).await?;
        Ok(answer.text.contains("paused by command: moving the tables").then_some(()))
    })
    .await?;
    three(&world, &gateway, 2).await?;
    // The pause outlasts a restart.
    worker.terminate().await?;
    let worker = world.worker().start().await?;
    eventually(SOON, "the worker knows that readings wait", || async {
        let answer = http::get(&worker.admin("/api/batch_processor/health")).await?;
        let paused = answer.text.contains("paused by command");
        Ok((paused && answer.json["queue_size"] == 3).then_some(()))
    })
    .await?;
    ensure!(rows(&world).await? == 3, "{} rows while paused", rows(&world).await?);
    ensure!(world.launch("worker", &["resume"]).finish().await?.code == Some(0), "resume failed");
    settled(&world).await?;
    ensure!(rows(&world).await? == 6, "{} rows", rows(&world).await?);
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn more_partitions_are_refused_until_somebody_accepts_them() -> Result<()> {
    let (world, gateway, worker) = pipeline("partitions").await?;
    three(&world, &gateway, 1).await?;
    settled(&world).await?;
    worker.terminate().await?;
    kafka::add_partitions(&world.stack.kafka_brokers, &world.readings_topic, 6).await?;
    eventually(SOON, "a worker refuses the topic", || async {
        let refused = world.worker().finish().await?;
        let named = refused.text.contains("--accept-partitions");
        Ok((named && refused.code == Some(1)).then_some(()))
    })
    .await?;
    let refused = world.launch("worker", &["migrate"]).finish().await?;
    ensure!(
        refused.code == Some(1) && refused.text.contains("--accept-partitions"),
        "{}",
        refused.text
    );
    let accepted = world.launch("worker", &["migrate", "--accept-partitions"]).finish().await?;
    ensure!(accepted.code == Some(0), "{}", accepted.text);
    let worker = world.worker().start().await?;
    three(&world, &gateway, 2).await?;
    settled(&world).await?;
    ensure!(rows(&world).await? == 6, "{} rows", rows(&world).await?);
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_pause_keeps_the_known_state_and_lets_no_new_worker_begin() -> Result<()> {
    let (world, gateway, worker) = pipeline("nopause").await?;
    three(&world, &gateway, 1).await?;
    settled(&world).await?;
    world.database.execute("RENAME TABLE ingest_control TO control_away").await?;
    let says = async |worker: &Service, text: &str| {
        eventually(SOON, &format!("the worker says: {text}"), || async {
            let answer = http::get(&worker.admin("/api/batch_processor/health")).await?;
            ensure!(answer.text.contains(text), "{}", answer.text);
            Ok(Some(()))
        })
        .await
    };
    says(&worker, "the last known state stays").await?;
    three(&world, &gateway, 2).await?;
    settled(&world).await?;
    worker.terminate().await?;

    let worker = world.worker().start().await?;
    says(&worker, "no reading is taken in").await?;
    three(&world, &gateway, 3).await?;
    says(&worker, "\"queue_size\":3").await?;
    ensure!(rows(&world).await? == 6, "{} rows without the pause", rows(&world).await?);
    world.database.execute("RENAME TABLE control_away TO ingest_control").await?;
    settled(&world).await?;
    ensure!(rows(&world).await? == 9, "{} rows", rows(&world).await?);
    says(&worker, "\"status\":\"healthy\"").await?;
    let log = worker.output();
    for (line, times) in
        [("cannot read the pause of the group", 1), ("pause of the group read again", 1)]
    {
        let found = log.matches(line).count();
        ensure!(found == times, "{found} times {line}: {log}");
    }
    finish(world, [gateway, worker]).await
}
