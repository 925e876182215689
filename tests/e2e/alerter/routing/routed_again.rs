//! Notifications that are routed again in an order of their own: late, twice, at the end of an alert,
//! or many at a time.

use std::collections::HashSet;

use anyhow::{Result, ensure};
use ljwx_tests::fakes::wechat::{APP_SECRET, Effect, Endpoint, Fault, NURSE};
use ljwx_tests::fleet::TENANT;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;

use super::rerouted::{CACHED, PAUSE, SOON, add, breach, outbox, recover, users, world};
use crate::alerter::inbox;
use crate::alerter::people::reach;
use crate::alerter::sender::NOW_MS;
use crate::support::{alerting, finish, measure};

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
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_that_is_over_when_its_opening_is_refused_notifies_nobody() -> Result<()> {
    let (world, wechat) = world("refusedover").await?;
    reach(&world, TENANT, 0, "wecom", "desk").await?;
    let busy = wechat.inject(Fault::on(Endpoint::Send, Effect::Errcode(-1)).of(&world.app_id()));
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    breach(&gateway, &world.device(1)).await?;
    let nurse = format!("openid:{NURSE}");
    outbox(&world, &[(&nurse, "pending")]).await?;
    recover(&gateway, &world.device(1)).await?;
    outbox(&world, &[(&nurse, "pending"), (&nurse, "pending")]).await?;
    wechat.set(|settings| settings.not_following.extend([NURSE.to_owned()]));
    busy.end();
    outbox(&world, &[(&nurse, "refused"), (&nurse, "dropped")]).await?;
    ensure!(wechat.delivered() == 0, "{:#?}", wechat.messages());
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_refused_first_is_notified_once_the_address_is_added_again() -> Result<()> {
    let (world, wechat) = world("addedagain").await?;
    reach(&world, TENANT, 0, "wecom", "desk").await?;
    wechat.set(|settings| {
        settings.not_following.extend([NURSE.to_owned()]);
        settings.members = Some(HashSet::new());
    });
    let (gateway, alerter) = alerting(&world, &wechat).await?;
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
    eventually(SOON, "the nurse is notified", || async {
        world.database.execute(due).await?;
        pass(PAUSE).await;
        Ok((wechat.delivered() == 1).then_some(()))
    })
    .await?;
    outbox(&world, &[(&nurse, "sent"), ("wecom:desk", "refused")]).await?;
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unrouted_notification_that_cannot_be_routed_again_delays_no_other() -> Result<()> {
    let (world, wechat) = world("unroutable").await?;
    let nurse = format!("openid:{NURSE}");
    add(&world, &[(5, 4), (5, 4), (5, 4)]).await?;
    world.database.execute("UPDATE t_alert_outbox SET state = 'unrouted'").await?;
    // The first of them, which is routed first, cannot be added for the nurse.
    let refuse = format!(
        "ALTER TABLE t_alert_outbox ADD CONSTRAINT refused \
         CHECK (device_sn <> 'D0' OR recipient <> '{nurse}')"
    );
    world.database.execute(&refuse).await?;
    let alerter = world.alerter(&wechat).start().await?;
    inbox(&wechat, NURSE, 2).await?;
    let refused = [("openid:o5", "refused"); 2];
    let rest = [("openid:o5", "unrouted"), (&*nurse, "sent"), (&*nurse, "sent")];
    outbox(&world, &[&refused[..], &rest].concat()).await?;
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_moves_for_everybody_and_reaches_nobody_who_was_notified_of_nothing() -> Result<()> {
    let (world, wechat) = world("movedend").await?;
    users(&world, [0], 1).await?;
    world.database.execute(BREAK).await?;
    add(&world, &[(0, 4), (0, 4)]).await?;
    world.database.execute("UPDATE t_alert_outbox SET state = 'sent'").await?;
    add_beside(&world, 0, (1, "resolved"), "openid:o0").await?;
    add_beside(&world, 1, (1, "resolved"), "wecom:v0").await?;
    let alerter = world.alerter(&wechat).start().await?;
    let texts = inbox(&wechat, "w0", 1).await?;
    ensure!(texts[0].contains("已恢复"), "{texts:?}");
    let sent = ("openid:o0", "sent");
    let ends = [("openid:o0", "moved"), ("wecom:w0", "sent"), ("wecom:v0", "dropped")];
    outbox(&world, &[&[sent, sent][..], &ends].concat()).await?;
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_waits_for_its_beginning_at_another_address() -> Result<()> {
    let (world, wechat) = world("waitingstart").await?;
    users(&world, [5], 1).await?;
    add(&world, &[(5, 4)]).await?;
    add_beside(&world, 0, (1, "resolved"), "openid:o5").await?;
    // Another replica has moved the beginning, and is sending it.
    let begun = format!(
        "UPDATE t_alert_outbox SET recipient = 'wecom:w5', lease_owner = 'other', \
         lease_until = {NOW_MS} + 600000 WHERE transition_seq = 0"
    );
    world.database.execute(&begun).await?;
    let alerter = world.alerter(&wechat).start().await?;
    let waits = "t_alert_outbox WHERE transition = 'resolved' AND last_error = 'earlier_waits'";
    eventually(SOON, "the end waits", || async {
        Ok((world.database.count(waits).await? == 1).then_some(()))
    })
    .await?;
    world.database.execute("UPDATE t_alert_outbox SET lease_until = 0").await?;
    inbox(&wechat, "w5", 1).await?;
    let texts = inbox(&wechat, "o5", 1).await?;
    ensure!(texts[0].contains("已恢复"), "{texts:?}");
    outbox(&world, &[("wecom:w5", "sent"), ("openid:o5", "sent")]).await?;
    finish(world, [alerter]).await
}

/// The message of the first alert has failed at the WeCom address of user 5.
async fn fail_in_wecom(world: &World) -> Result<()> {
    add_beside(world, 0, (0, "opened"), "wecom:w5").await?;
    let failed = "UPDATE t_alert_outbox SET state = 'failed' WHERE recipient = 'wecom:w5'";
    world.database.execute(failed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_at_the_other_account_waits_for_the_broken_one() -> Result<()> {
    let (world, wechat) = world("failedelsewhere").await?;
    users(&world, [5], 1).await?;
    world.database.execute(BREAK).await?;
    add(&world, &[(5, 4), (5, 4)]).await?;
    // The person's second address at the broken account must not count as reached.
    add_beside(&world, 0, (0, "opened"), "openid:p5").await?;
    fail_in_wecom(&world).await?;
    let alerter = world.alerter(&wechat).start().await?;
    inbox(&wechat, "w5", 1).await?;
    let first = [("openid:o5", "pending"), ("openid:p5", "pending"), ("wecom:w5", "failed")];
    let second = [("openid:o5", "moved"), ("wecom:w5", "sent")];
    outbox(&world, &[&first[..], &second].concat()).await?;
    let fixed = format!(
        "UPDATE t_wechat_alarm_config SET appsecret = '{APP_SECRET}' WHERE type = 'official'"
    );
    world.database.execute(&fixed).await?;
    inbox(&wechat, "o5", 1).await?;
    inbox(&wechat, "p5", 1).await?;
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_words_that_failed_at_the_other_account_fail() -> Result<()> {
    let (world, wechat) = world("blockedtwice").await?;
    users(&world, [5], 1).await?;
    wechat.inject(Fault::on(Endpoint::Send, Effect::Errcode(40249)).of(&world.app_id()));
    add(&world, &[(5, 4), (5, 4)]).await?;
    fail_in_wecom(&world).await?;
    let alerter = world.alerter(&wechat).start().await?;
    inbox(&wechat, "w5", 1).await?;
    let first = [("openid:o5", "failed"), ("wecom:w5", "failed")];
    let second = [("openid:o5", "moved"), ("wecom:w5", "sent")];
    outbox(&world, &[first, second].concat()).await?;
    finish(world, [alerter]).await
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
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_no_move_of_notifications() -> Result<()> {
    let (world, wechat) = world("movestopped").await?;
    users(&world, [5], 0).await?;
    world.database.execute(BREAK).await?;
    add(&world, &[(5, 4)]).await?;
    let mut alerter = world.alerter(&wechat).env("DRAIN_TIMEOUT", "10s").start().await?;
    let tried = "t_alert_outbox WHERE attempts > 0 AND lease_until = 0";
    eventually(SOON, "the account is known to be broken", || async {
        let is_settled = world.database.count(tried).await? == 1;
        Ok((is_settled && alerter.output().contains("wechat_broken")).then_some(()))
    })
    .await?;
    let lock = world.database.lock("t_alert_outbox").await?;
    reach(&world, TENANT, 5, "wecom", "w5").await?;
    let waiting = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE db = DATABASE() \
                   AND info LIKE 'SELECT id FROM t_alert_outbox WHERE state IN%FOR UPDATE'";
    eventually(SOON, "the move waits for the locked row", || async {
        Ok((world.database.number(waiting).await? > 0).then_some(()))
    })
    .await?;
    alerter.signal("TERM").await?;
    let status = alerter.ended().await?;
    ensure!(status.success(), "the alerter ended with {status}");
    ensure!(!alerter.output().contains("still in flight"), "the stop waited for the move");
    lock.release().await?;
    outbox(&world, &[("openid:o5", "pending")]).await?;
    world.finish().await
}

/// Lets an alert that has lasted for half a minute become critical.
const ESCALATE: &str =
    "UPDATE t_alert_rules SET escalation = '[{\"after_seconds\": 30, \"to\": \"critical\"}]'";

#[tokio::test(flavor = "multi_thread")]
async fn who_refused_a_rise_is_asked_no_more_and_the_end_goes_to_who_was_notified() -> Result<()> {
    let (world, wechat) = world("refusedrise").await?;
    reach(&world, TENANT, 0, "wecom", "desk").await?;
    world.database.execute(ESCALATE).await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    breach(&gateway, &world.device(1)).await?;
    inbox(&wechat, NURSE, 1).await?;
    wechat.set(|settings| settings.not_following.extend([NURSE.to_owned()]));
    let now = || jiff::Timestamp::now().as_second();
    measure(&gateway, &world.device(1), now(), &[133]).await?;
    let texts = inbox(&wechat, "desk", 1).await?;
    ensure!(texts[0].contains("升级"), "{texts:?}");
    measure(&gateway, &world.device(1), now() + 1, &[80]).await?;
    inbox(&wechat, "desk", 2).await?;
    let nurse = format!("openid:{NURSE}");
    let nurses = [(nurse.as_str(), "sent"), (nurse.as_str(), "refused")];
    outbox(&world, &[&nurses[..], &[("wecom:desk", "sent"); 2]].concat()).await?;
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rise_that_reaches_nobody_new_goes_at_once_to_who_was_notified_and_later_to_others_alone()
-> Result<()> {
    let (world, wechat) = world("owedrise").await?;
    world.database.execute(ESCALATE).await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    breach(&gateway, &world.device(1)).await?;
    inbox(&wechat, NURSE, 1).await?;
    world.database.execute("DELETE FROM t_alert_recipient_address").await?;
    pass(CACHED).await;
    let now = || jiff::Timestamp::now().as_second();
    measure(&gateway, &world.device(1), now(), &[133]).await?;
    let texts = inbox(&wechat, NURSE, 2).await?;
    ensure!(texts[1].contains("升级"), "{texts:?}");

    reach(&world, TENANT, 0, "wecom", "desk").await?;
    eventually(SOON, "the next breach notifies the desk", || async {
        measure(&gateway, &world.device(1), now(), &[134]).await?;
        pass(PAUSE).await;
        Ok((!wechat.inbox("desk").is_empty()).then_some(()))
    })
    .await?;
    let texts = inbox(&wechat, "desk", 1).await?;
    ensure!(texts[0].contains("持续"), "{texts:?}");
    let nurse = format!("openid:{NURSE}");
    let sent = (nurse.as_str(), "sent");
    outbox(&world, &[sent, sent, ("wecom:desk", "sent")]).await?;
    finish(world, [gateway, alerter]).await
}
