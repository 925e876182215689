//! An account that everybody refuses: it is the cause, and not the addresses.

use anyhow::{Result, ensure};
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;

use super::rerouted::{SOON, add, users, world};
use crate::alerter::inbox;
use crate::alerter::sender::NOW_MS;
use crate::support::{finish, operators_get};

/// Waits until every address is enabled.
async fn enabled(world: &World) -> Result<()> {
    let disabled = "t_alert_recipient_address WHERE disabled_at IS NOT NULL";
    eventually(SOON, "no address is disabled", || async {
        Ok((world.database.count(disabled).await? == 0).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_everybody_refuses_is_broken_and_disables_nobody() -> Result<()> {
    let (world, wechat) = world("refusedall").await?;
    users(&world, 1..=5, 5).await?;
    wechat.set(|settings| settings.not_following.extend((1..=5).map(|user| format!("o{user}"))));
    add(&world, &[(1, 4), (2, 4), (3, 4), (4, 4), (5, 4)]).await?;
    let alerter = world.alerter(&wechat).start().await?;
    for user in 1..=5 {
        inbox(&wechat, &format!("w{user}"), 1).await?;
    }
    enabled(&world).await?;
    let of = |state: &str| format!("t_alert_outbox WHERE state = '{state}'");
    eventually(SOON, "five are refused and five are sent", || async {
        let states =
            (world.database.count(&of("refused")).await?, world.database.count(&of("sent")).await?);
        ensure!(states == (5, 5), "refused, sent: {states:?}");
        Ok(Some(()))
    })
    .await?;
    ensure!(alerter.output().contains("wechat_broken"), "operators did not hear of it");
    finish(world, [alerter]).await
}

/// Disables the addresses of the users up to this one, as another replica does that was refused.
async fn refuse(world: &World, up_to: i64) -> Result<()> {
    let disable = format!(
        "UPDATE t_alert_recipient_address SET disabled_at = NOW(), disabled_errcode = 43004 \
         WHERE user_id BETWEEN 1 AND {up_to}"
    );
    world.database.execute(&disable).await
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_that_nobody_else_judges_are_taken_back() -> Result<()> {
    let (world, wechat) = world("refusedelsewhere").await?;
    users(&world, 1..=5, 0).await?;
    // Another process ended at the fifth refusal.
    refuse(&world, 5).await?;
    let alerter = world.alerter(&wechat).start().await?;
    enabled(&world).await?;
    operators_get(&alerter, "wechat_broken", SOON).await?;
    // Another replica does not know of the cause, and begins to count anew.
    refuse(&world, 1).await?;
    enabled(&world).await?;
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_refuses_a_trial_leaves_the_next_one_to_another_message() -> Result<()> {
    let (world, wechat) = world("refusedtrial").await?;
    users(&world, 1..=6, 0).await?;
    wechat.set(|settings| settings.not_following.extend(["o6".to_owned()]));
    refuse(&world, 5).await?;
    let alerter = world.alerter(&wechat).start().await?;
    operators_get(&alerter, "wechat_broken", SOON).await?;
    add(&world, &[(6, 4)]).await?;
    // A changed row is tried at once.
    let changed = "UPDATE t_wechat_alarm_config SET template_fields = \
                   '{\"keyword1\": \"patient\", \"keyword2\": \"event\"}' WHERE type = 'official'";
    world.database.execute(changed).await?;
    // The account is tried again after 5 min.
    let waits = format!(
        "t_alert_outbox WHERE state = 'pending' AND last_errcode = 43004 \
         AND next_attempt_at > {NOW_MS} + 400000"
    );
    eventually(SOON, "the notification waits longer than the account", || async {
        Ok((world.database.count(&waits).await? == 1).then_some(()))
    })
    .await?;
    finish(world, [alerter]).await
}
