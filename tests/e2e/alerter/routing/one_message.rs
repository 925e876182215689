//! Alerts of one reading reach a person as one message, and stay alerts and rows of their own.

use anyhow::{Result, ensure};
use ljwx_tests::fakes::wechat::{Effect, Endpoint, FakeWechat, Fault, Moment, NURSE};
use ljwx_tests::fleet::TENANT;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::world::World;
use serde_json::json;

use super::rerouted::{self, outbox};
use crate::alerter::inbox;
use crate::alerter::people::reach;
use crate::alerter::sender::{add, row};
use crate::support::{alerting, delivered, finish, report, rows};

/// Returns a world with a critical rule on heart rate above 120, and a minor one of these values.
async fn world(name: &str, sign: &str, min: &str, max: &str) -> Result<(World, FakeWechat)> {
    let (world, wechat) = rerouted::world(name).await?;
    let critical = "UPDATE t_alert_rules SET trend_duration = 1, severity_level = 'critical'";
    world.database.execute(critical).await?;
    let minor = format!(
        "INSERT INTO t_alert_rules (rule_type, physical_sign, threshold_min, threshold_max, \
         severity_level, notification_type) VALUES ('minor', '{sign}', {min}, {max}, 'minor', \
         'wechat')"
    );
    world.database.execute(&minor).await?;
    Ok((world, wechat))
}

/// Sends a reading of this many seconds ago, of the first device.
async fn measure(
    world: &World,
    gateway: &Service,
    ago: i64,
    (rate, oxygen): (i32, i32),
) -> Result<()> {
    let vitals = json!({"heart_rate": rate, "blood_oxygen": oxygen});
    report(gateway, &world.device(1), jiff::Timestamp::now().as_second() - ago, vitals).await
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_of_one_reading_are_one_message_and_stay_two_alerts() -> Result<()> {
    let (world, wechat) = world("onereading", "blood_oxygen", "90", "NULL").await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    measure(&world, &gateway, 60, (150, 85)).await?;
    let texts = inbox(&wechat, NURSE, 1).await?;
    let shown = format!("{} · 心率过高 150 等2条 · 严重 · ", world.device(1));
    ensure!(texts[0].starts_with(&shown), "{texts:?}");
    rows(&world, "t_alert_info WHERE alert_status = 'NOTIFIED'", 2).await?;
    rows(&world, "t_alert_action_log WHERE result = 'success'", 2).await?;
    rows(&world, "t_alert_outbox WHERE state = 'sent' AND digest_id IS NOT NULL", 1).await?;

    // One alert ends, then the other one.
    measure(&world, &gateway, 45, (80, 85)).await?;
    inbox(&wechat, NURSE, 2).await?;
    measure(&world, &gateway, 30, (80, 97)).await?;
    let texts = inbox(&wechat, NURSE, 3).await?;
    ensure!(texts[1].contains("已恢复 心率 80 · ") && texts[2].contains("血氧"), "{texts:?}");
    let nurse = format!("openid:{NURSE}");
    outbox(&world, &[(nurse.as_str(), "sent"); 4]).await?;
    ensure!(wechat.delivered() == 3, "{:#?}", wechat.messages());
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_leads_before_the_end_of_a_worse_alert_and_is_as_urgent() -> Result<()> {
    let (world, wechat) = world("openingleads", "blood_oxygen", "90", "NULL").await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    measure(&world, &gateway, 60, (150, 97)).await?;
    inbox(&wechat, NURSE, 1).await?;
    measure(&world, &gateway, 45, (80, 85)).await?;
    let texts = inbox(&wechat, NURSE, 2).await?;
    ensure!(texts[1].contains("血氧过低 85 等2条 · 低级"), "{texts:?}");
    rows(&world, "t_alert_outbox WHERE state = 'sent' AND severity = 5", 3).await?;
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_down_is_one_message() -> Result<()> {
    let (world, wechat) = world("stepdown", "heart_rate", "NULL", "110").await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    measure(&world, &gateway, 60, (130, 97)).await?;
    inbox(&wechat, NURSE, 1).await?;
    // The critical alert ends, and the minor one, which was inhibited, goes on.
    measure(&world, &gateway, 45, (115, 97)).await?;
    let texts = inbox(&wechat, NURSE, 2).await?;
    ensure!(!texts[0].contains("等") && texts[1].contains("等2条"), "{texts:?}");
    measure(&world, &gateway, 30, (80, 97)).await?;
    inbox(&wechat, NURSE, 3).await?;
    let nurse = format!("openid:{NURSE}");
    outbox(&world, &[(nurse.as_str(), "sent"); 4]).await?;
    ensure!(wechat.delivered() == 3, "{:#?}", wechat.messages());
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn in_wecom_each_alert_has_a_line_also_if_the_message_is_sent_again() -> Result<()> {
    let (world, wechat) = world("lines", "blood_oxygen", "90", "NULL").await?;
    world.database.execute("DELETE FROM t_alert_recipient_address").await?;
    reach(&world, TENANT, 0, "wecom", "desk").await?;
    // The message arrives, and the alerter cannot know.
    wechat.inject(Fault::on(Endpoint::Send, Effect::Cut(Moment::After)).times(1));
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    measure(&world, &gateway, 60, (150, 85)).await?;
    outbox(&world, &[("wecom:desk", "sent"); 2]).await?;
    let texts = inbox(&wechat, "desk", 1).await?;
    let lines: Vec<_> = texts[0].lines().collect();
    let (first, last) = ("【严重】心率过高 150 (>120)", "【低级】血氧过低 85 (＜90)");
    ensure!(lines.len() == 5 && (lines[0], lines[4]) == (first, last), "{texts:?}");
    ensure!(wechat.sends() == 2, "{} sends", wechat.sends());
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_sender_dies_is_received_once_and_settles_both_alerts() -> Result<()> {
    let (world, wechat) = world("deadsender", "blood_oxygen", "90", "NULL").await?;
    let hang = Fault::on(Endpoint::Send, Effect::Hang(Moment::After)).times(1);
    let hang = wechat.inject(hang);
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    measure(&world, &gateway, 60, (150, 85)).await?;
    delivered(&wechat, 1).await?;
    alerter.kill().await?;
    hang.end();
    world.database.execute("UPDATE t_alert_outbox SET lease_until = 0").await?;
    let alerter = world.alerter(&wechat).start().await?;
    let nurse = format!("openid:{NURSE}");
    outbox(&world, &[(nurse.as_str(), "sent"); 2]).await?;
    rows(&world, "t_alert_info WHERE alert_status = 'NOTIFIED'", 2).await?;
    inbox(&wechat, NURSE, 1).await?;
    ensure!(wechat.sends() == 2, "{} sends", wechat.sends());
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_refused_message_each_alert_goes_to_others_by_itself() -> Result<()> {
    let (world, wechat) = world("refusedboth", "blood_oxygen", "90", "NULL").await?;
    reach(&world, TENANT, 0, "wecom", "desk").await?;
    wechat.set(|settings| settings.not_following.extend([NURSE.to_owned()]));
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    measure(&world, &gateway, 60, (150, 85)).await?;
    let texts = inbox(&wechat, "desk", 2).await?;
    for sign in ["】心率", "】血氧"] {
        let about = texts.iter().filter(|text| text.contains(sign)).count();
        ensure!(about == 1, "{about} messages about {sign}: {texts:?}");
    }
    let nurse = format!("openid:{NURSE}");
    let (refused, sent) = ((nurse.as_str(), "refused"), ("wecom:desk", "sent"));
    outbox(&world, &[refused, refused, sent, sent]).await?;
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_leading_row_leaves_behind_goes_by_itself() -> Result<()> {
    let (world, wechat) = rerouted::world("leftbehind").await?;
    let pending = |number: usize| {
        row(number, (TENANT, &format!("openid:o{number}")), "major", ("pending", 0))
    };
    add(&world, (1..=4).map(pending)).await?;
    for sql in [
        "UPDATE t_alert_outbox AS part JOIN t_alert_outbox AS leader \
         ON (leader.device_sn, part.device_sn) IN (('D1', 'D2'), ('D3', 'D4')) \
         SET part.state = 'in_digest', part.digest_id = leader.id",
        // A sender of an older version sent the first row alone.
        "UPDATE t_alert_outbox SET state = 'sent' WHERE device_sn = 'D1'",
        // The end of an alert of which the person was not notified is dropped.
        "UPDATE t_alert_outbox SET transition = 'resolved' WHERE device_sn = 'D3'",
    ] {
        world.database.execute(sql).await?;
    }
    let alerter = world.alerter(&wechat).start().await?;
    let states = ["sent", "sent", "dropped", "sent"];
    let people = ["openid:o1", "openid:o2", "openid:o3", "openid:o4"];
    let expected: Vec<_> = people.into_iter().zip(states).collect();
    outbox(&world, &expected).await?;
    ensure!(wechat.delivered() == 2, "{:#?}", wechat.messages());
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_several_alerts_goes_into_a_digest_with_all_of_them() -> Result<()> {
    let (world, wechat) = rerouted::world("foldeddigest").await?;
    let pending = |number: usize| row(number, (TENANT, "openid:o1"), "major", ("pending", 0));
    add(&world, (1..=3).map(pending)).await?;
    for sql in [
        "UPDATE t_alert_outbox SET last_error = 'recipient_limit'",
        "UPDATE t_alert_outbox AS part JOIN t_alert_outbox AS leader ON leader.device_sn = 'D1' \
         SET part.state = 'in_digest', part.digest_id = leader.id WHERE part.device_sn = 'D2'",
    ] {
        world.database.execute(sql).await?;
    }
    let alerter = world.alerter(&wechat).start().await?;
    let texts = inbox(&wechat, "o1", 1).await?;
    ensure!(texts[0].contains("汇总 3条"), "{texts:?}");
    outbox(&world, &[("openid:o1", "sent"); 4]).await?;
    rows(&world, "t_alert_outbox WHERE digest_id IS NOT NULL", 3).await?;
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_folded_does_not_overtake_what_was_taken_out_of_another_message() -> Result<()> {
    let (world, wechat) = rerouted::world("overtaken").await?;
    add(&world, (1..=4).map(|number| row(number, (TENANT, "openid:o1"), "major", ("pending", 0))))
        .await?;
    for sql in [
        // Of each of two alerts there are two rows. Those of one reading are one message.
        "UPDATE t_alert_outbox AS later JOIN t_alert_outbox AS earlier \
         ON (earlier.device_sn, later.device_sn) IN (('D1', 'D3'), ('D2', 'D4')) \
         SET later.episode_key = earlier.episode_key, later.transition_seq = 2",
        "UPDATE t_alert_outbox AS part JOIN t_alert_outbox AS leader \
         ON (leader.device_sn, part.device_sn) IN (('D1', 'D2'), ('D3', 'D4')) \
         SET part.state = 'in_digest', part.digest_id = leader.id, leader.severity = 4",
        // The end of an alert of which the person was not notified is dropped.
        "UPDATE t_alert_outbox SET transition = 'resolved' WHERE device_sn = 'D1'",
    ] {
        world.database.execute(sql).await?;
    }
    let alerter = world.alerter(&wechat).start().await?;
    let texts = inbox(&wechat, "o1", 3).await?;
    let place = |device: &str| texts.iter().position(|text| text.contains(device));
    ensure!(place("D2").is_some() && place("D2") < place("D4"), "{texts:?}");
    rows(&world, "t_alert_outbox WHERE digest_id IS NULL", 4).await?;
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_leaves_an_account_only_if_one_of_its_rows_can() -> Result<()> {
    let (world, wechat) = rerouted::world("stayingdigest").await?;
    rerouted::users(&world, [5, 6], 1).await?;
    rerouted::add(&world, &[(6, 4), (6, 4), (5, 4), (5, 4)]).await?;
    for sql in [
        // The first row of each person stands for a digest of the second.
        "UPDATE t_alert_outbox AS part JOIN t_alert_outbox AS digest \
         ON (digest.device_sn, part.device_sn) IN (('D0', 'D1'), ('D2', 'D3')) \
         SET part.state = 'in_digest', part.digest_id = digest.id, digest.transition = 'digest', \
         digest.user_id = NULL",
        "UPDATE t_wechat_alarm_config SET appsecret = 'not-the-secret' WHERE type = 'official'",
    ] {
        world.database.execute(sql).await?;
    }
    let alerter = world.alerter(&wechat).start().await?;
    inbox(&wechat, "w5", 1).await?;
    let expected = [
        ("openid:o6", "pending"),
        ("openid:o6", "in_digest"),
        ("openid:o5", "moved"),
        ("openid:o5", "moved"),
        ("wecom:w5", "sent"),
    ];
    outbox(&world, &expected).await?;
    finish(world, [alerter]).await
}
