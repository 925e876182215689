//! Notifications that are routed again in an order of their own: late, twice, at the end of an alert,
//! or many at a time.

use std::collections::HashSet;

use anyhow::{Result, ensure};
use ljwx_tests::fakes::wechat::{Effect, Endpoint, Fault, NURSE};
use ljwx_tests::fleet::TENANT;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;

use super::people::reach;
use super::rerouted::{PAUSE, SOON, add, breach, inbox, outbox, recover, users, world};
use super::sender::NOW_MS;

/// Breaks the tenant's official account.
const BREAK: &str =
    "UPDATE t_wechat_alarm_config SET appsecret = 'not-the-secret' WHERE type = 'official'";

/// Adds a notification beside the one of this number: another of its episode.
async fn add_beside(
    world: &World,
    number: usize,
    (seq, transition): (i64, &str),
    recipient: &str,
) -> Result<()> {
    let sql = format!(
        "INSERT INTO t_alert_outbox (episode_key, transition_seq, transition, recipient, user_id, \
         customer_id, device_sn, notice, payload, severity, next_attempt_at, created_at) \
         SELECT episode_key, {seq}, '{transition}', '{recipient}', user_id, customer_id, device_sn, \
         REPLACE(notice, 'opened', '{transition}'), '', severity, {NOW_MS}, {NOW_MS} \
         FROM t_alert_outbox AS beside WHERE device_sn = 'D{number}' LIMIT 1"
    );
    world.database.execute(&sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_that_is_added_late_still_comes_before_its_rise() -> Result<()> {
    let (world, wechat) = world("lateopening").await?;
    users(&world, [5], 0).await?;
    add(&world, &[(5, 4)]).await?;
    add_beside(&world, 0, (1, "escalated"), "openid:o5").await?;
    // The rise is older and more severe.
    for sql in [
        "UPDATE t_alert_outbox SET id = id + 100 WHERE transition_seq = 0",
        "UPDATE t_alert_outbox SET created_at = created_at - 1000, severity = 5 \
         WHERE transition_seq = 1",
    ] {
        world.database.execute(sql).await?;
    }
    let alerter = world.alerter(&wechat).start().await?;
    outbox(&world, &[("openid:o5", "sent"); 2]).await?;
    let order =
        "SELECT transition FROM t_alert_outbox WHERE episode_key LIKE '%0' ORDER BY finished_at";
    let order = world.database.rows(order).await?;
    ensure!(order[0] == [Some("opened".to_owned())], "{order:?}");
    alerter.terminate().await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_that_is_over_when_its_opening_is_refused_is_told_to_nobody() -> Result<()> {
    let (world, wechat) = world("refusedover").await?;
    reach(&world, TENANT, 0, "wecom", "desk").await?;
    let busy = wechat.inject(Fault::on(Endpoint::Send, Effect::Errcode(-1)).of(&world.app_id()));
    let (gateway, alerter) =
        tokio::try_join!(world.gateway().start(), world.alerter(&wechat).start())?;
    breach(&gateway, &world.device(1)).await?;
    let nurse = format!("openid:{NURSE}");
    outbox(&world, &[(&nurse, "pending")]).await?;
    recover(&gateway, &world.device(1)).await?;
    outbox(&world, &[(&nurse, "pending"), (&nurse, "pending")]).await?;
    wechat.set(|settings| settings.not_following.extend([NURSE.to_owned()]));
    busy.end();
    outbox(&world, &[(&nurse, "refused"), (&nurse, "dropped")]).await?;
    ensure!(wechat.delivered() == 0, "{:#?}", wechat.messages());
    gateway.terminate().await?;
    alerter.terminate().await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_refused_first_is_told_once_the_address_is_added_again() -> Result<()> {
    let (world, wechat) = world("addedagain").await?;
    reach(&world, TENANT, 0, "wecom", "desk").await?;
    wechat.set(|settings| {
        settings.not_following.extend([NURSE.to_owned()]);
        settings.members = Some(HashSet::new());
    });
    let (gateway, alerter) =
        tokio::try_join!(world.gateway().start(), world.alerter(&wechat).start())?;
    breach(&gateway, &world.device(1)).await?;
    let nurse = format!("openid:{NURSE}");
    outbox(&world, &[(&nurse, "refused"), ("wecom:desk", "unrouted")]).await?;
    wechat.set(|settings| settings.not_following.clear());
    let again = format!(
        "UPDATE t_alert_recipient_address SET disabled_at = NULL WHERE address = '{NURSE}'"
    );
    world.database.execute(&again).await?;
    // The next attempt would be a minute away.
    let due = "UPDATE t_alert_outbox SET next_attempt_at = 0 WHERE state = 'unrouted'";
    eventually(SOON, "the nurse is told", || async {
        world.database.execute(due).await?;
        pass(PAUSE).await;
        Ok((wechat.delivered() == 1).then_some(()))
    })
    .await?;
    outbox(&world, &[(&nurse, "sent"), ("wecom:desk", "refused")]).await?;
    gateway.terminate().await?;
    alerter.terminate().await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_moves_for_everybody_and_reaches_nobody_who_was_told_nothing() -> Result<()> {
    let (world, wechat) = world("movedend").await?;
    users(&world, [0], 1).await?;
    world.database.execute(BREAK).await?;
    add(&world, &[(0, 4), (0, 4)]).await?;
    world.database.execute("UPDATE t_alert_outbox SET state = 'sent'").await?;
    add_beside(&world, 0, (1, "resolved"), "openid:o0").await?;
    add_beside(&world, 1, (1, "resolved"), "wecom:v0").await?;
    let alerter = world.alerter(&wechat).start().await?;
    let told = inbox(&wechat, "w0", 1).await?;
    ensure!(told[0].contains("已恢复"), "{told:?}");
    let sent = ("openid:o0", "sent");
    let ends = [("openid:o0", "moved"), ("wecom:w0", "sent"), ("wecom:v0", "dropped")];
    outbox(&world, &[&[sent, sent][..], &ends].concat()).await?;
    alerter.terminate().await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn more_notifications_than_one_statement_reads_leave_a_broken_account() -> Result<()> {
    let (world, wechat) = world("movedmany").await?;
    users(&world, [5], 1).await?;
    world.database.execute(BREAK).await?;
    add(&world, &[(5, 4); 600]).await?;
    let alerter = world.alerter(&wechat).start().await?;
    let moved = "t_alert_outbox WHERE state = 'moved'";
    eventually(SOON, "all are moved", || async {
        let moved = world.database.count(moved).await?;
        ensure!(moved == 600, "{moved} are");
        Ok(Some(()))
    })
    .await?;
    ensure!(wechat.sends_of(&world.app_id()) == 0, "a message was sent by the broken account");
    alerter.terminate().await?;
    world.finish().await
}
