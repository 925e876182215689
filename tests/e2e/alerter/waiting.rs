//! Notifications that wait: each has a way out, and no other notification waits with them.
//!
//! Rows are written to the outbox directly, as in `sender`.

use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::fakes::wechat::{APP_SECRET, Effect, Endpoint, Fault, NURSE, TEMPLATE_ID};
use ljwx_tests::fleet::TENANT;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;

use super::people::reach;
use super::sender::{NEIGHBOURS, NOW_MS, add, row, world};
use crate::support::{SOON, delivered, judged, measure};

/// The state and the age of a new row, and of a row older than half an hour.
const NEW: (&str, i64) = ("pending", 0);
const OLD: (&str, i64) = ("pending", 1);

/// The pause between two attempts of a test to be noticed.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits until the outbox holds these devices, states and reasons, in the order of the rows.
async fn outbox(world: &World, expected: &[[&str; 3]]) -> Result<()> {
    let sql = "SELECT device_sn, state, COALESCE(last_error, '') FROM t_alert_outbox ORDER BY id";
    eventually(SOON, "every row has its state", || async {
        let found: Vec<Vec<String>> =
            world.database.rows(sql).await?.into_iter().map(texts).collect();
        ensure!(found == expected, "{found:?}");
        Ok(Some(()))
    })
    .await
}

fn texts(row: Vec<Option<String>>) -> Vec<String> {
    row.into_iter().map(Option::unwrap_or_default).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_sender_had_claimed_is_sent_after_its_lease() -> Result<()> {
    let (world, wechat) = world("lease").await?;
    add(&world, [row(1, (TENANT, "openid:o1"), "major", NEW)]).await?;
    let claimed =
        format!("UPDATE t_alert_outbox SET lease_owner = 'dead', lease_until = {NOW_MS} + 8000");
    world.database.execute(&claimed).await?;
    let until = world.database.number("SELECT lease_until FROM t_alert_outbox").await?;
    let alerter = world.alerter(&wechat).start().await?;
    delivered(&wechat, 1).await?;
    outbox(&world, &[["D1", "sent", ""]]).await?;
    let sent = world.database.number("SELECT finished_at FROM t_alert_outbox").await?;
    ensure!(sent >= until, "sent {} ms before the end of the lease", until - sent);
    alerter.terminate().await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_this_version_cannot_read_ends_after_half_an_hour_and_stops_no_other()
-> Result<()> {
    let (world, wechat) = world("unreadable").await?;
    let rows = [
        row(1, (TENANT, "fax:1"), "major", NEW),
        row(2, (TENANT, "fax:2"), "major", OLD),
        row(3, (TENANT, "openid:o3"), "major", NEW),
        row(4, (TENANT, "openid:o4"), "major", OLD),
        row(5, (TENANT, "openid:o5"), "major", NEW),
    ];
    add(&world, rows).await?;
    let unreadable = "UPDATE t_alert_outbox SET notice = '{}' WHERE device_sn IN ('D3', 'D4')";
    world.database.execute(unreadable).await?;
    let alerter = world.alerter(&wechat).start().await?;
    delivered(&wechat, 1).await?;
    let expected = [
        ["D1", "pending", "no_channel"],
        ["D2", "failed", "no_channel"],
        ["D3", "pending", "no_content"],
        ["D4", "dropped", "no_content"],
        ["D5", "sent", ""],
    ];
    outbox(&world, &expected).await?;
    alerter.terminate().await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_without_an_account_is_sent_once_there_is_one() -> Result<()> {
    let (world, wechat) = world("noaccount").await?;
    add(&world, [row(1, (NEIGHBOURS, "openid:o1"), "major", NEW)]).await?;
    let alerter = world.alerter(&wechat).start().await?;
    outbox(&world, &[["D1", "pending", "no_account"]]).await?;
    let account = format!(
        "INSERT INTO t_wechat_alarm_config (customer_id, type, appid, appsecret, template_id) \
         VALUES ({NEIGHBOURS}, 'official', '{}b', '{APP_SECRET}', '{TEMPLATE_ID}')",
        world.app_id()
    );
    world.database.execute(&account).await?;
    // The next attempt would be minutes away.
    let due = "UPDATE t_alert_outbox SET next_attempt_at = 0 WHERE state = 'pending'";
    eventually(SOON, "the account is found", || async {
        world.database.execute(due).await?;
        pass(PAUSE).await;
        Ok((wechat.delivered() == 1).then_some(()))
    })
    .await?;
    outbox(&world, &[["D1", "sent", ""]]).await?;
    alerter.terminate().await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_address_gets_nothing_until_it_is_added_again() -> Result<()> {
    let (world, wechat) = world("disabled").await?;
    let (gateway, alerter) =
        tokio::try_join!(world.gateway().start(), world.alerter(&wechat).start())?;
    wechat.inject(Fault::on(Endpoint::Send, Effect::Errcode(43004)).times(1));
    add(&world, [row(1, (TENANT, &format!("openid:{NURSE}")), "major", NEW)]).await?;
    let disabled = "t_alert_recipient_address WHERE disabled_errcode = 43004";
    eventually(SOON, "the address is disabled", || async {
        Ok((world.database.count(disabled).await? == 1).then_some(()))
    })
    .await?;
    // Nobody else is known, so the notification would be routed again.
    world.database.execute("DELETE FROM t_alert_outbox").await?;
    let now = || jiff::Timestamp::now().as_second();
    measure(&gateway, &world.device(1), now() - 300, &[130, 131, 132]).await?;
    judged(&world).await?;
    let counted = alerter.metric("alerter_notifications_total", "errcode=\"refused\"").await?;
    ensure!(counted == 1.0, "{counted} alerts whose only address is disabled are counted");
    ensure!(wechat.delivered() == 0, "{:#?}", wechat.messages());

    reach(&world, TENANT, 0, "openid", NURSE).await?;
    eventually(SOON, "the next breach notifies", || async {
        measure(&gateway, &world.device(1), now(), &[133]).await?;
        pass(PAUSE).await;
        Ok((wechat.delivered() == 1).then_some(()))
    })
    .await?;
    gateway.terminate().await?;
    alerter.terminate().await?;
    world.finish().await
}
