//! Operators and their outside monitor hear whether an alert would reach people.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use axum::Router;
use axum::routing::get;
use ljwx_tests::fakes::http_server::Server;
use ljwx_tests::fakes::platform::{self, BLOOD_OXYGEN_LOW};
use ljwx_tests::fakes::webhook::{Post, Webhook};
use ljwx_tests::fakes::wechat::{Effect, Endpoint, FakeWechat, Fault};
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;
use serde_json::json;

use crate::support::{report, send};

/// The longest that a step may take.
const SOON: Duration = Duration::from_secs(60);

/// The longest wait for a heartbeat, which comes once a minute.
const MINUTES: Duration = Duration::from_secs(150);

/// Long enough for an unwanted event or heartbeat to arrive.
const WHILE: Duration = Duration::from_secs(6);

/// The part of the outside monitor's address that nobody may see.
const SECRET: &str = "hush-of-the-monitor";

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Returns the events about readings, oldest first.
fn about_readings(hook: &Webhook) -> Vec<Post> {
    let is_about = |post: &Post| {
        post.json["event"].as_str().is_some_and(|event| event.starts_with("readings_"))
    };
    hook.posts().into_iter().filter(is_about).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_that_stop_are_told_of_once_however_many_replicas_there_are() -> Result<()> {
    let world = World::shared("stopped").await?;
    world.migrate().await?;
    platform::seed(&world, &[BLOOD_OXYGEN_LOW]).await?;
    let (hook, wechat) = (Webhook::start("hush").await?, FakeWechat::start().await?);
    let alerter = || {
        world
            .alerter(&wechat)
            .env("OPERATORS_WEBHOOK_URL", hook.url())
            .env("OPERATORS_WEBHOOK_SECRET", "hush")
            .env("NO_READINGS_AFTER", "3s")
            .start()
    };
    let (gateway, one, two) = tokio::try_join!(world.gateway().start(), alerter(), alerter())?;
    eventually(SOON, "both replicas own partitions", || async {
        let one = one.metric("consumer_partitions_owned", "").await?;
        let two = two.metric("consumer_partitions_owned", "").await?;
        Ok((one >= 1.0 && two >= 1.0).then_some(()))
    })
    .await?;

    let begun = now();
    send(&gateway, &world.device(1), "2025-09-02 16:10", &[70]).await?;
    let stopped = eventually(SOON, "operators hear that readings have stopped", || async {
        Ok(about_readings(&hook).into_iter().next())
    })
    .await?;
    ensure!(stopped.signed.is_ok(), "{stopped:?}");
    ensure!(stopped.json["event"] == "readings_stopped", "{}", stopped.json);
    ensure!(stopped.json["count"] == 1 && stopped.json.get("customer_id").is_none());
    let since: jiff::Timestamp = stopped.json["since"].as_str().unwrap_or_default().parse()?;
    ensure!(since.as_second() >= begun + 3, "{since} is not 3 s after the last reading");
    pass(WHILE).await;
    ensure!(about_readings(&hook).len() == 1, "{:#?}", about_readings(&hook));

    send(&gateway, &world.device(1), "2025-09-02 16:11", &[70]).await?;
    let resumed = eventually(SOON, "operators hear that readings arrive again", || async {
        Ok(about_readings(&hook).into_iter().nth(1))
    })
    .await?;
    ensure!(resumed.json["event"] == "readings_resumed", "{}", resumed.json);
    ensure!(resumed.json["count"] == 0 && resumed.json["since"] == stopped.json["since"]);
    for replica in [&one, &two] {
        let last = replica.metric("alerter_last_record_timestamp_seconds", "").await?;
        ensure!(last >= begun as f64, "{} has seen {last}", replica.name());
    }
    gateway.terminate().await?;
    one.terminate().await?;
    two.terminate().await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_wait_for_a_critical_notification_and_their_address_stays_secret() -> Result<()>
{
    let world = World::shared("beats").await?;
    world.migrate().await?;
    platform::seed(&world, &[BLOOD_OXYGEN_LOW]).await?;
    let beats = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&beats);
    let beat = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::ready("heard")
    };
    let router = Router::new().route(&format!("/ping/{SECRET}"), get(beat));
    let monitor = Server::start(SocketAddr::from(([127, 0, 0, 1], 0)), router).await?;
    let wechat = FakeWechat::start().await?;
    let busy = wechat.inject(Fault::on(Endpoint::Send, Effect::Errcode(-1)));
    let (gateway, before) =
        tokio::try_join!(world.gateway().start(), world.alerter(&wechat).start())?;
    report(&gateway, &world.device(1), now() - 10, json!({"blood_oxygen": 85})).await?;
    let waiting = "SELECT COUNT(*) FROM t_alert_outbox WHERE state = 'pending'";
    eventually(SOON, "a critical notification waits", || async {
        Ok((world.database.number(waiting).await? == 1).then_some(()))
    })
    .await?;
    before.terminate().await?;
    let age = "UPDATE t_alert_outbox SET created_at = created_at - 180000";
    world.database.execute(age).await?;

    let url = format!("{}/ping/{SECRET}", monitor.url());
    let alerter = world.alerter(&wechat).env("HEARTBEAT_URL", url).start().await?;
    eventually(SOON, "the notification is known to wait", || async {
        let critical = "severity=\"critical\"";
        let oldest = alerter.metric("alerter_outbox_oldest_seconds", critical).await?;
        Ok((oldest > 120.0).then_some(()))
    })
    .await?;
    pass(WHILE).await;
    ensure!(beats.load(Ordering::Relaxed) == 0, "a heartbeat although nobody was notified");

    busy.end();
    eventually(MINUTES, "a heartbeat once the notification is sent", || async {
        let due = "UPDATE t_alert_outbox SET next_attempt_at = 0 WHERE state = 'pending'";
        world.database.execute(due).await?;
        Ok((beats.load(Ordering::Relaxed) >= 1).then_some(()))
    })
    .await?;
    ensure!(wechat.delivered() == 1, "{} messages", wechat.delivered());
    eventually(SOON, "the heartbeat is counted", || async {
        let sent = alerter.metric("alerter_heartbeats_total", "outcome=\"sent\"").await?;
        Ok((sent >= 1.0).then_some(()))
    })
    .await?;
    ensure!(!alerter.output().contains(SECRET), "the address in the log");
    gateway.terminate().await?;
    alerter.terminate().await?;
    world.finish().await
}
