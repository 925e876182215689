//! Refused recipients and accounts that do not send: the notification goes to another address, and
//! whoever was notified of an alert is notified of its end.

use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::fakes::wechat::{
    APP_SECRET, CORP_SECRET, Effect, Endpoint, FakeWechat, Fault, NURSE,
};
use ljwx_tests::fleet::TENANT;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;

use crate::alerter::inbox;
use crate::alerter::people::reach;
use crate::alerter::sender::NOW_MS;
use crate::support::{alerting, delivered, evaluated, finish, measure, operators_get, seeded};

/// The longest that a step may take, with the lives of caches and the pauses of accounts.
pub(super) const SOON: Duration = Duration::from_secs(60);

/// Longer than the alerter caches addresses and accounts.
pub(super) const CACHED: Duration = Duration::from_secs(11);

/// The pause between two attempts of a test to be noticed.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// The second user of two.
const ANOTHER: i64 = 6;

/// Returns a world whose tenant also has an application in WeCom.
pub(super) async fn world(name: &str) -> Result<(World, FakeWechat)> {
    let (world, wechat) = seeded(name).await?;
    let sql = format!(
        "INSERT INTO t_wechat_alarm_config (customer_id, type, corp_id, agent_id, secret) \
         VALUES ({TENANT}, 'enterprise', 'ww{}', '1000002', '{CORP_SECRET}')",
        world.app_id()
    );
    world.database.execute(&sql).await?;
    Ok((world, wechat))
}

/// Adds notifications of openings to users at their openids, each with its severity.
pub(super) async fn add(world: &World, rows: &[(i64, i64)]) -> Result<()> {
    for (number, (user, severity)) in rows.iter().enumerate() {
        let notice = format!(
            r#"{{"transition":"opened","severity":"major","flapping":false,"vital":"heart_rate",
            "device_sn":"D{number}","user":"D{number}","wall":"2025-09-02T12:00:00","text":"133",
            "routing":{{"user_id":{user},"channels":{{"wechat":true}}}}}}"#
        );
        let sql = format!(
            "INSERT INTO t_alert_outbox (episode_key, transition_seq, transition, recipient, \
             user_id, customer_id, device_sn, notice, payload, severity, next_attempt_at, \
             created_at) VALUES ('{number:032}', 0, 'opened', 'openid:o{user}', {user}, {TENANT}, \
             'D{number}', '{notice}', '', {severity}, {NOW_MS}, {NOW_MS})"
        );
        world.database.execute(&sql).await?;
    }
    Ok(())
}

/// Gives users an openid, and the first `wecom` of them a member's user id.
pub(super) async fn users(
    world: &World,
    users: impl IntoIterator<Item = i64>,
    wecom: usize,
) -> Result<()> {
    for (place, user) in users.into_iter().enumerate() {
        reach(world, TENANT, user, "openid", &format!("o{user}")).await?;
        if place < wecom {
            reach(world, TENANT, user, "wecom", &format!("w{user}")).await?;
        }
    }
    Ok(())
}

pub(super) async fn breach(gateway: &Service, device: &str) -> Result<()> {
    let now = jiff::Timestamp::now().as_second();
    measure(gateway, device, now - 60, &[130, 131, 132]).await
}

/// Ends the alert that [`breach`] opened.
pub(super) async fn recover(gateway: &Service, device: &str) -> Result<()> {
    measure(gateway, device, jiff::Timestamp::now().as_second(), &[80]).await
}

/// Waits until the outbox holds these recipients and states, in any order.
pub(super) async fn outbox(world: &World, expected: &[(&str, &str)]) -> Result<()> {
    let mut expected: Vec<[String; 2]> =
        expected.iter().map(|(to, state)| [(*to).to_owned(), (*state).to_owned()]).collect();
    expected.sort();
    let sql = "SELECT recipient, state FROM t_alert_outbox";
    eventually(SOON, "every row has its state", || async {
        let rows = world.database.rows(sql).await?;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let mut found: Vec<_> = rows.iter().map(|row| [text(&row[0]), text(&row[1])]).collect();
        found.sort();
        ensure!(found == expected, "{found:?}");
        Ok(Some(()))
    })
    .await
}

/// Waits until this many notifications are counted by their outcome, which follows its commit.
async fn counted(alerter: &Service, outcome: &str, count: f64) -> Result<()> {
    let labels = format!("outcome=\"{outcome}\"");
    eventually(SOON, &format!("{count} notifications are counted as {outcome}"), || async {
        let found = alerter.metric("alerter_notifications_total", &labels).await?;
        ensure!(found == count, "{found} are");
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_is_notified_by_another_kind_and_tried_again_after_a_day() -> Result<()> {
    let (world, wechat) = world("refusedone").await?;
    reach(&world, TENANT, 0, "wecom", "desk").await?;
    wechat.set(|settings| settings.not_following.extend([NURSE.to_owned()]));
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    breach(&gateway, &world.device(1)).await?;
    inbox(&wechat, "desk", 1).await?;
    let nurse = format!("openid:{NURSE}");
    outbox(&world, &[(&nurse, "refused"), ("wecom:desk", "sent")]).await?;
    counted(&alerter, "refused", 1.0).await?;

    // The end goes to whom the beginning reached, and the next alert tries the address no more.
    recover(&gateway, &world.device(1)).await?;
    let texts = inbox(&wechat, "desk", 2).await?;
    ensure!(texts[1].contains("已恢复"), "{texts:?}");
    breach(&gateway, &world.device(2)).await?;
    inbox(&wechat, "desk", 3).await?;
    let tried = format!("t_alert_outbox WHERE recipient = '{nurse}'");
    ensure!(world.database.count(&tried).await? == 1, "the address was tried again");
    let notified = "t_alert_info WHERE alert_status IN ('NOTIFIED', 'RESOLVED')";
    eventually(SOON, "no alert is pending", || async {
        Ok((world.database.count(notified).await? == 2).then_some(()))
    })
    .await?;

    wechat.set(|settings| settings.not_following.clear());
    let day = "UPDATE t_alert_recipient_address SET disabled_at = NOW() - INTERVAL 24 HOUR \
               WHERE disabled_at IS NOT NULL";
    world.database.execute(day).await?;
    pass(CACHED).await;
    breach(&gateway, &world.device(3)).await?;
    inbox(&wechat, NURSE, 1).await?;
    inbox(&wechat, "desk", 3).await?;
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_reaches_nobody_waits_for_somebody_and_is_dropped_once_it_is_over() -> Result<()> {
    let (world, wechat) = world("unrouted").await?;
    wechat.set(|settings| settings.not_following.extend([NURSE.to_owned()]));
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    breach(&gateway, &world.device(1)).await?;
    let nurse = format!("openid:{NURSE}");
    outbox(&world, &[(&nurse, "unrouted")]).await?;
    operators_get(&alerter, "no_recipient_reached", SOON).await?;
    // The address seems to work again, so another alert is written for it. The first one is not
    // routed to it meanwhile.
    let later = "UPDATE t_alert_outbox SET next_attempt_at = next_attempt_at + 600000 \
                 WHERE state = 'unrouted'";
    world.database.execute(later).await?;
    world.database.execute("UPDATE t_alert_recipient_address SET disabled_at = NULL").await?;
    pass(CACHED).await;
    breach(&gateway, &world.device(2)).await?;
    outbox(&world, &[(&nurse, "unrouted"), (&nurse, "unrouted")]).await?;
    recover(&gateway, &world.device(2)).await?;
    evaluated(&world).await?;

    reach(&world, TENANT, 0, "wecom", "desk").await?;
    // The next attempt would be a minute away.
    let due = "UPDATE t_alert_outbox SET next_attempt_at = 0 WHERE state = 'unrouted'";
    eventually(SOON, "the desk is found", || async {
        world.database.execute(due).await?;
        pass(PAUSE).await;
        Ok((wechat.delivered() == 1).then_some(()))
    })
    .await?;
    let texts = inbox(&wechat, "desk", 1).await?;
    ensure!(texts[0].contains(&world.device(1)), "{texts:?}");
    outbox(&world, &[(&nurse, "refused"), (&nurse, "dropped"), ("wecom:desk", "sent")]).await?;
    counted(&alerter, "over", 1.0).await?;
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_address_that_refuses_is_disabled_like_any_other() -> Result<()> {
    let (world, wechat) = world("refuseddefault").await?;
    for sql in [
        "DELETE FROM t_alert_recipient_address".to_owned(),
        format!(
            "UPDATE t_wechat_alarm_config SET default_address = IF(type = 'official', '{NURSE}', \
             'duty')"
        ),
    ] {
        world.database.execute(&sql).await?;
    }
    wechat.set(|settings| settings.not_following.extend([NURSE.to_owned()]));
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    breach(&gateway, &world.device(1)).await?;
    inbox(&wechat, "duty", 1).await?;
    let disabled = "t_alert_recipient_address WHERE user_id = -1 AND disabled_errcode = 43004";
    ensure!(world.database.count(disabled).await? == 1, "the address is not disabled");
    breach(&gateway, &world.device(2)).await?;
    inbox(&wechat, "duty", 2).await?;
    let nurse = format!("openid:{NURSE}");
    outbox(&world, &[(&nurse, "refused"), ("wecom:duty", "sent"), ("wecom:duty", "sent")]).await?;
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_broken_account_moves_or_goes_once_the_account_is_fixed() -> Result<()> {
    let (world, wechat) = world("moved").await?;
    users(&world, [5, ANOTHER], 1).await?;
    let secret = |secret: &str| {
        format!("UPDATE t_wechat_alarm_config SET appsecret = '{secret}' WHERE type = 'official'")
    };
    world.database.execute(&secret("not-the-secret")).await?;
    add(&world, &[(5, 4), (ANOTHER, 4), (5, 4)]).await?;
    let uncertain = format!(
        "UPDATE t_alert_outbox SET uncertain_since = {NOW_MS} - 900000 WHERE device_sn = 'D2'"
    );
    world.database.execute(&uncertain).await?;
    let alerter = world.alerter(&wechat).start().await?;
    let texts = inbox(&wechat, "w5", 2).await?;
    let repeats = texts.iter().filter(|text| text.contains("重复?")).count();
    ensure!(repeats == 1, "{texts:?}");
    let waiting = ("openid:o6", "pending");
    let moved = [("openid:o5", "moved"), ("openid:o5", "moved")];
    let sent = [("wecom:w5", "sent"), ("wecom:w5", "sent")];
    outbox(&world, &[&moved[..], &sent, &[waiting]].concat()).await?;
    counted(&alerter, "moved", 2.0).await?;

    world.database.execute(&secret(APP_SECRET)).await?;
    inbox(&wechat, "o6", 1).await?;
    for event in ["wechat_broken", "wechat_works"] {
        operators_get(&alerter, event, SOON).await?;
    }
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_an_account_that_is_switched_off_moves() -> Result<()> {
    let (world, wechat) = world("switchedoff").await?;
    users(&world, [5], 1).await?;
    let off = "UPDATE t_wechat_alarm_config SET enabled = 0 WHERE type = 'official'";
    world.database.execute(off).await?;
    add(&world, &[(5, 4)]).await?;
    let alerter = world.alerter(&wechat).start().await?;
    inbox(&wechat, "w5", 1).await?;
    outbox(&world, &[("openid:o5", "moved"), ("wecom:w5", "sent")]).await?;
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn at_an_account_s_limit_only_what_is_critical_moves() -> Result<()> {
    let (world, wechat) = world("atlimit").await?;
    users(&world, [5, ANOTHER], 2).await?;
    let limit = Fault::on(Endpoint::Send, Effect::Errcode(45011)).of(&world.app_id());
    wechat.inject(limit);
    add(&world, &[(5, 4), (ANOTHER, 5)]).await?;
    let alerter = world.alerter(&wechat).start().await?;
    inbox(&wechat, "w6", 1).await?;
    let expected = [("openid:o5", "pending"), ("openid:o6", "moved"), ("wecom:w6", "sent")];
    outbox(&world, &expected).await?;
    ensure!(!alerter.output().contains("wechat_broken"), "a limit is nothing for operators");
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_goes_to_exactly_those_who_were_notified_of_the_beginning() -> Result<()> {
    let (world, wechat) = world("followers").await?;
    reach(&world, TENANT, 0, "openid", "o2").await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    breach(&gateway, &world.device(1)).await?;
    delivered(&wechat, 2).await?;
    // One address is gone, and another is new.
    let gone = "DELETE FROM t_alert_recipient_address WHERE address = 'o2'";
    world.database.execute(gone).await?;
    reach(&world, TENANT, 0, "openid", "o3").await?;
    pass(CACHED).await;
    recover(&gateway, &world.device(1)).await?;
    for person in [NURSE, "o2"] {
        let texts = inbox(&wechat, person, 2).await?;
        ensure!(texts[1].contains("已恢复"), "{person}: {texts:?}");
    }
    breach(&gateway, &world.device(2)).await?;
    inbox(&wechat, "o3", 1).await?;
    inbox(&wechat, NURSE, 3).await?;
    ensure!(wechat.delivered() == 6, "{:#?}", wechat.messages());
    finish(world, [gateway, alerter]).await
}
