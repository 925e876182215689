//! From a breach to the message on the nurse's telephone, and no message twice.

use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::fakes::platform::{self, BLOOD_OXYGEN_LOW, HEART_RATE_HIGH};
use ljwx_tests::fakes::wechat::{FakeWechat, NURSE};
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;
use serde_json::json;

use crate::support::{
    SOON, alerting, delivered, evaluated, finish, measure, report, seeded, world,
};

async fn alerts(world: &World) -> Result<Vec<(String, String)>> {
    let rows =
        world.database.rows("SELECT device_sn, alert_status FROM t_alert_info ORDER BY id").await?;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Ok(rows.iter().map(|row| (text(&row[0]), text(&row[1]))).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breach_is_notified_once_its_end_once_and_a_restart_repeats_nothing() -> Result<()> {
    let (world, wechat) = seeded("alert").await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    let device = world.device(1);
    let now = jiff::Timestamp::now().as_second();

    // Two breaches do not meet the trend. The third opens the episode, the fourth adds nothing.
    measure(&gateway, &device, now - 300, &[80, 130, 131, 132, 133]).await?;
    delivered(&wechat, 1).await?;
    evaluated(&world).await?;
    eventually(SOON, "the alert says that it was notified", || async {
        Ok((alerts(&world).await? == [(device.clone(), "NOTIFIED".to_owned())]).then_some(()))
    })
    .await?;
    let first = &wechat.messages()[0];
    // An official account's message shows only patient, event, level and time.
    let shown = format!("{device} · 心率过高 132 · 高级 · ");
    ensure!(first.touser == NURSE && first.text().starts_with(&shown), "{first:?}");

    measure(&gateway, &device, now - 240, &[84]).await?;
    delivered(&wechat, 2).await?;
    eventually(SOON, "the alert is resolved", || async {
        Ok((alerts(&world).await? == [(device.clone(), "RESOLVED".to_owned())]).then_some(()))
    })
    .await?;

    // A new alerter continues with the stored state, ledger and outbox.
    alerter.kill().await?;
    let alerter = world.alerter(&wechat).start().await?;
    measure(&gateway, &device, now - 200, &[85]).await?;
    evaluated(&world).await?;
    pass(Duration::from_secs(3)).await;
    let messages = wechat.messages();
    ensure!(messages.len() == 2, "{messages:#?}");
    ensure!(alerts(&world).await?.len() == 1, "{:?}", alerts(&world).await?);
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_renewed_and_a_busy_platform_asked_again() -> Result<()> {
    let (world, wechat) = seeded("token").await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    let now = jiff::Timestamp::now().as_second();
    measure(&gateway, &world.device(1), now - 300, &[130, 131, 132]).await?;
    delivered(&wechat, 1).await?;
    let tokens = wechat.token_requests();
    ensure!(tokens == 1, "{tokens} tokens were asked for");

    // The cached token becomes invalid, and then the platform answers that it is busy.
    wechat.expire_token();
    wechat.refuse_next(&[-1]);
    measure(&gateway, &world.device(2), now - 300, &[130, 131, 132]).await?;
    delivered(&wechat, 2).await?;
    let text = wechat.messages()[1].text();
    ensure!(text.contains(&world.device(2)), "{text}");
    ensure!(wechat.token_requests() == tokens + 1, "{} tokens", wechat.token_requests());
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_of_two_signs_notifies_once_both_hold_for_long_enough() -> Result<()> {
    let world = world("composite").await?;
    platform::seed(&world, &[]).await?;
    // The form that the admin console writes: camel case, and its own name for the vital.
    let expression = json!({
        "conditions": [
            {"physicalSign": "heart_rate", "operator": ">", "threshold": 120, "durationSeconds": 30},
            {"physicalSign": "blood_oxygen", "operator": "<", "threshold": 92, "durationSeconds": 0},
        ],
        "logicalOperator": "AND",
    });
    world
        .database
        .execute(&format!(
            "INSERT INTO t_alert_rules (rule_type, rule_category, physical_sign, condition_expression, \
             severity_level, alert_message, notification_type) VALUES ('composite', 'COMPOSITE', \
             'composite_0001', '{expression}', 'critical', '{{device_sn}} {{sign}} {{value}}', 'wechat')"
        ))
        .await?;
    let wechat = FakeWechat::start().await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    let (device, start) = (world.device(1), jiff::Timestamp::now().as_second() - 600);
    for (second, heart_rate, blood_oxygen) in
        [(0, 130, 97), (15, 131, 90), (30, 132, 95), (45, 133, 91)]
    {
        let vitals = json!({"heart_rate": heart_rate, "blood_oxygen": blood_oxygen});
        report(&gateway, &device, start + second, vitals).await?;
    }
    delivered(&wechat, 1).await?;
    evaluated(&world).await?;
    let opened = world.database.rows("SELECT occur_at, alert_type FROM t_alert_info").await?;
    let expected = [wall_time(start + 45), "composite".to_owned()].map(Some);
    ensure!(opened == [expected], "only the last reading has both: {opened:?}");
    let text = wechat.messages()[0].text();
    ensure!(text.starts_with(&format!("{device} · 心率异常 133")), "{text}");
    report(&gateway, &device, start + 60, json!({"heart_rate": 90, "blood_oxygen": 97})).await?;
    delivered(&wechat, 2).await?;
    finish(world, [gateway, alerter]).await
}

/// Ensures that this alerter has counted `expected` readings as late.
async fn ensure_late(alerter: &Service, expected: f64) -> Result<()> {
    let late = alerter.metric("alerter_readings_total", "outcome=\"late\"").await?;
    ensure!(late == expected, "{late} readings were late, {expected} expected");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_evaluated_stays_evaluated_over_a_restart() -> Result<()> {
    let world = World::shared("restart").await?.with_partitions(1);
    world.migrate().await?;
    platform::seed(&world, &[HEART_RATE_HIGH]).await?;
    let now = jiff::Timestamp::now().as_second();
    let (usual, high) = (world.device(1), world.device(2));
    let wechat = FakeWechat::start().await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    measure(&gateway, &usual, now - 300, &[80, 81, 82]).await?;
    measure(&gateway, &high, now - 200, &[130, 131, 132]).await?;
    delivered(&wechat, 1).await?;
    evaluated(&world).await?;
    ensure_late(&alerter, 0.0).await?;
    alerter.kill().await?;

    // The next alerter knows the evaluated readings from the journal only. Without it, the first
    // device would breach.
    let alerter = world.alerter(&wechat).start().await?;
    measure(&gateway, &high, now - 200, &[130, 131, 132]).await?;
    measure(&gateway, &usual, now - 300, &[130, 131, 132]).await?;
    evaluated(&world).await?;
    ensure_late(&alerter, 6.0).await?;
    ensure!(wechat.messages().len() == 1, "{:#?}", wechat.messages());
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_too_many_is_evaluated_and_not_missed() -> Result<()> {
    let world = World::shared("surplus").await?.with_partitions(1);
    world.migrate().await?;
    platform::seed(&world, &[BLOOD_OXYGEN_LOW]).await?;
    platform::add_absence_rule(&world, Duration::from_secs(6)).await?;
    let wechat = FakeWechat::start().await?;
    let alerter = world.alerter(&wechat).env("DEVICES_MAX", "1");
    let (gateway, alerter) = tokio::try_join!(world.gateway().start(), alerter.start())?;
    let [remembered, surplus, ill] = [1, 2, 3].map(|number| world.device(number));
    let now = || jiff::Timestamp::now().as_second();
    let start = now() - 60;
    // The surplus device is silent for longer than the remembered one.
    for (device, second, blood_oxygen) in
        [(&remembered, 0, 97), (&surplus, 0, 97), (&remembered, 1, 97), (&ill, 0, 85)]
    {
        let vitals = json!({ "blood_oxygen": blood_oxygen });
        report(&gateway, device, start + second, vitals).await?;
    }
    delivered(&wechat, 1).await?;
    ensure!(wechat.messages()[0].text().contains(&ill), "{:?}", wechat.messages());
    let counted = alerter.metric("alerter_devices_not_remembered_total", "").await?;
    ensure!(counted == 2.0, "{counted} readings of two devices");
    eventually(SOON, "the remembered device is missed", || async {
        report(&gateway, &ill, now(), json!({ "blood_oxygen": 85 })).await?;
        pass(Duration::from_millis(500)).await;
        Ok((wechat.delivered() == 2).then_some(()))
    })
    .await?;
    let text = wechat.messages()[1].text();
    ensure!(text.contains(&remembered) && text.contains("设备失联"), "{text}");
    let alerts = world.database.count("t_alert_info").await?;
    ensure!(alerts == 2, "{alerts} alerts");
    finish(world, [gateway, alerter]).await
}
