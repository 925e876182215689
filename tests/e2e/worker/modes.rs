//! Operators pause workers. Workers stop at a changed topic until an operator has accepted it.

use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::clients::{http, kafka};
use ljwx_tests::fakes::platform;
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;

use crate::alerter::no_data::{device_in, keep_sending};
use crate::support::{
    SOON, ensure_holds, evaluated, finish, measure, pipeline, send, settled, totals,
};

/// The window of the rule on missing data.
const WINDOW: Duration = Duration::from_secs(15);

/// The time of a device's last reading before it moves.
const LAST: i64 = 1_756_785_600;

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
    ensure!(worker.terminate().await?.success(), "the worker failed");
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
    ensure!(worker.terminate().await?.success(), "the worker failed");
    kafka::add_partitions(&world.stack.kafka_brokers, &world.readings_topic, 6).await?;
    eventually(SOON, "a worker refuses the topic", || async {
        let refused = world.worker().finish().await?;
        let named = refused.text.contains("--accept-partitions");
        // What waits for the workers cannot be stored first.
        let alerters_first = refused.text.contains("Wait until the alerters have no lag");
        Ok((named && alerters_first && refused.code == Some(1)).then_some(()))
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

/// Adds partitions and accepts them, while no service runs.
async fn add_partitions(world: &World, count: usize) -> Result<()> {
    let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
    kafka::add_partitions(brokers, topic, count).await?;
    eventually(SOON, "the added partitions are accepted", || async {
        let accept = world.launch("worker", &["migrate", "--accept-partitions"]);
        let accepted = accept.finish().await?;
        ensure!(accepted.code == Some(0), "{}", accepted.text);
        let known = world.database.number("SELECT `partitions` FROM ingest_topic").await?;
        ensure!(usize::try_from(known)? == count, "accepted with {known} partitions");
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_device_that_sends_again_and_is_replayed_is_accounted_for_and_not_missed()
-> Result<()> {
    let world = World::shared("grown").await?.with_partitions(2);
    world.migrate().await?;
    platform::seed(&world, &[]).await?;
    platform::add_absence_rule(&world, WINDOW).await?;
    let heart_rate = "ALTER TABLE t_user_health_data MODIFY heart_rate";
    world.database.execute(&format!("{heart_rate} TINYINT NULL")).await?;
    let wechat = FakeWechat::start().await?;
    let start = async || {
        tokio::try_join!(
            world.gateway().start(),
            world.worker().start(),
            world.alerter(&wechat).start()
        )
    };
    let (gateway, worker, alerter) = start().await?;
    // The first device moves from partition 0 to partition 2. The others stay.
    let moved = device_in(&world, 0, 2, 4)?;
    let everybody = [moved, device_in(&world, 0, 0, 4)?, device_in(&world, 0, 1, 4)?];
    let device = world.device(moved);
    // The row of the first record of partition 0 is never counted, so another device sends it.
    measure(&gateway, &world.device(everybody[1]), LAST, &[70]).await?;
    measure(&gateway, &device, LAST, &[80, 200, 201]).await?;
    settled(&world).await?;
    evaluated(&world).await?;
    ensure!(totals(&world).await? == (2, 2), "{:?}", totals(&world).await?);
    // From now on the stored row is one that the ledger has counted.
    ensure_holds(&world, &[]).await?;
    for service in [gateway, worker, alerter] {
        ensure!(service.terminate().await?.success(), "a service failed");
    }

    add_partitions(&world, 4).await?;
    world.database.execute(&format!("{heart_rate} INT NULL")).await?;
    let (gateway, worker, alerter) = start().await?;
    keep_sending(&world, &gateway, &everybody, Duration::from_secs(2)).await?;
    // The device repeats the stored reading twice, and the last one, which is a dead letter, once.
    for (at, rate) in [(LAST - 30, 80), (LAST - 30, 80), (LAST, 201)] {
        measure(&gateway, &device, at, &[rate]).await?;
    }
    settled(&world).await?;
    let replay = world.launch("worker", &["dlq", "replay"]).finish().await?;
    ensure!(replay.code == Some(0) && replay.text.contains("2 reading(s) sent"), "{replay:?}");
    keep_sending(&world, &gateway, &everybody, WINDOW + Duration::from_secs(7)).await?;
    settled(&world).await?;
    evaluated(&world).await?;

    let sql = format!(
        "SELECT id DIV 1099511627776, deliveries FROM t_user_health_data \
         WHERE device_sn = '{device}' AND timestamp <= '{}' ORDER BY timestamp",
        wall_time(LAST)
    );
    let rows = world.database.rows(&sql).await?;
    let rows: Vec<String> = rows.into_iter().flatten().flatten().collect();
    ensure!(rows == ["0", "3", "0", "1", "2", "2"], "partitions and deliveries: {rows:?}");
    // The count of partition 0 lacks the deliveries that merged into its counted row. A full count has
    // them, and the next audit adds to it.
    let all = ensure_holds(&world, &["--full"]).await?;
    let counted = ensure_holds(&world, &[]).await?;
    ensure!(counted["totals"] == all["totals"], "{counted:#} instead of {all:#}");
    let left_out = alerter.metric("alerter_readings_total", "outcome=\"moved\"").await?;
    ensure!(left_out == 2.0, "{left_out} replayed readings were evaluated by nobody");
    ensure!(world.database.count("t_alert_info").await? == 0, "{:#?}", wechat.messages());
    finish(world, [gateway, worker, alerter]).await
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
    ensure!(worker.terminate().await?.success(), "the worker failed");

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
