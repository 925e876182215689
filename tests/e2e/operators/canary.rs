//! The canary shows that the way to MySQL is open, and is no device: with it alone, readings have
//! stopped, and nobody is missed.

use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::fakes::platform;
use ljwx_tests::fakes::webhook::Webhook;
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;
use serde_json::json;

use super::watched::SOON;
use crate::support::{ensure_holds, evaluated, finish, report, settled};

/// Longer than the window of the rule here, which is 12 s.
const LONG: Duration = Duration::from_secs(20);

/// The canary's rows: one a day.
const ROWS: &str = "SELECT COUNT(*) FROM t_user_health_data WHERE device_sn = 'LJWX-CANARY'";

/// What the canary has sent so far.
const SENT: &str = "SELECT COALESCE(SUM(deliveries), 0) FROM t_user_health_data \
                    WHERE device_sn = 'LJWX-CANARY'";

/// Returns how often operators got this event.
fn posts_of(hook: &Webhook, event: &str) -> usize {
    hook.posts().iter().filter(|post| post.json["event"] == event).count()
}

/// Waits until operators have got this event so often.
async fn posted(hook: &Webhook, event: &str, times: usize) -> Result<()> {
    eventually(SOON, &format!("{event}, time {times}"), || async {
        Ok((posts_of(hook, event) == times).then_some(()))
    })
    .await
}

/// Ensures that each service counts this many readings, and no canary among them.
async fn ensure_counted(services: [&Service; 3], readings: f64) -> Result<()> {
    let [gateway, worker, alerter] = services;
    for (service, metric, labels) in [
        (gateway, "gateway_readings_total", "accepted\""),
        (worker, "readings_total", ""),
        (alerter, "alerter_readings_total", ""),
    ] {
        let counted = service.metric(metric, labels).await?;
        ensure!(counted == readings, "{metric} is {counted}, of {readings} readings");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_canary_alone_readings_have_stopped_and_no_patient_is_missed() -> Result<()> {
    // In one partition the records of the canary lie among those of all devices.
    let world = World::shared("canary").await?.with_partitions(1);
    world.migrate().await?;
    platform::seed(&world, &[]).await?;
    platform::add_absence_rule(&world, Duration::from_secs(12)).await?;
    let (hook, wechat) = (Webhook::start("hush").await?, FakeWechat::start().await?);
    let alerter = || {
        world
            .alerter(&wechat)
            .env("OPERATORS_WEBHOOK_URL", hook.url())
            .env("OPERATORS_WEBHOOK_SECRET", "hush")
            .env("NO_READINGS_AFTER", "4s")
            .start()
    };
    let gateway = world.gateway().start().await?;
    let url = gateway.url("/upload_health_data");
    let worker = world.worker().env("CANARY_URL", url).env("CANARY_INTERVAL", "1s");
    let (worker, before) = tokio::try_join!(worker.start(), alerter())?;
    let now = jiff::Timestamp::now().as_second();
    for device in 1..=3 {
        report(&gateway, &world.device(device), now, json!({ "heart_rate": 70 })).await?;
    }
    posted(&hook, "readings_stopped", 1).await?;
    settled(&world).await?;
    evaluated(&world).await?;
    ensure_counted([&gateway, &worker, &before], 3.0).await?;
    let last = before.metric("alerter_last_record_timestamp_seconds", "").await?;
    let sent = world.database.number(SENT).await?;
    pass(LONG).await;
    ensure!(world.database.number(SENT).await? > sent, "no canary meanwhile");
    ensure!(before.metric("alerter_last_record_timestamp_seconds", "").await? == last, "{last}");
    ensure!(posts_of(&hook, "readings_resumed") == 0, "{:#?}", hook.posts());

    // An alerter that starts now finds the devices' last records behind those of the canary.
    ensure!(before.terminate().await?.success(), "the alerter failed");
    let after = alerter().await?;
    posted(&hook, "readings_stopped", 2).await?;
    ensure!(world.database.count("t_alert_info").await? == 0, "{:#?}", wechat.messages());

    report(&gateway, &world.device(1), now + 1, json!({ "heart_rate": 70 })).await?;
    posted(&hook, "readings_resumed", 1).await?;
    let visible = worker.metric("canary_visible_seconds", "").await?;
    ensure!(visible > 0.0, "{visible}: the canary was sent");
    ensure!((1..=2).contains(&world.database.number(ROWS).await?), "more than one row a day");
    ensure_holds(&world, &[]).await?;
    finish(world, [gateway, worker, after]).await
}
