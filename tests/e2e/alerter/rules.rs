//! Rules that survive changes of their source, and the commands that show rules.

use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::fakes::platform::{self, BLOOD_OXYGEN_LOW, HEART_RATE_HIGH};
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::Value;

use crate::support::{alerting, delivered, finish, measure, operators_get, seeded, world};

/// The longest until the alerter sees a change of the rules.
const SOON: Duration = Duration::from_secs(30);

/// Waits until this many rules are in the given state.
async fn rules(alerter: &Service, state: &str, count: f64) -> Result<()> {
    eventually(SOON, &format!("{count} rules are {state}"), || async {
        let found = alerter.metric("alerter_rules", &format!("state=\"{state}\"")).await?;
        Ok((found == count).then_some(()))
    })
    .await
}

/// Runs a command that must succeed and returns the JSON that it prints.
async fn document(world: &World, arguments: &[&str]) -> Result<Value> {
    let done = world.launch("alerter", arguments).finish().await?;
    ensure!(done.code == Some(0), "{arguments:?} ended with {:?}: {}", done.code, done.text);
    // Standard error follows the document.
    let document = serde_json::Deserializer::from_str(&done.text).into_iter::<Value>().next();
    document.transpose()?.ok_or_else(|| anyhow::anyhow!("no document: {}", done.text))
}

/// Sends breaches of a device's heart rate, some minutes old.
async fn breach(gateway: &Service, device: &str) -> Result<()> {
    let now = jiff::Timestamp::now().as_second();
    measure(gateway, device, now - 300, &[130, 131, 132]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_was_broken_is_evaluated_in_its_last_good_version_after_a_restart() -> Result<()>
{
    let world = world("lastgood").await?;
    platform::seed(&world, &[HEART_RATE_HIGH, BLOOD_OXYGEN_LOW]).await?;
    let wechat = FakeWechat::start().await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    eventually(SOON, "both rules are kept", || async {
        Ok((world.database.count("t_alert_rule_last_good").await? == 2).then_some(()))
    })
    .await?;
    alerter.terminate().await?;
    let broken = "UPDATE t_alert_rules SET alert_message = '{vlaue}' WHERE id = 1";
    world.database.execute(broken).await?;
    world.database.execute("DELETE FROM t_alert_rules WHERE id = 2").await?;

    let alerter = world.alerter(&wechat).start().await?;
    rules(&alerter, "last_good", 1.0).await?;
    rules(&alerter, "valid", 0.0).await?;
    let now = jiff::Timestamp::now().as_second();
    measure(&gateway, &world.device(1), now - 300, &[130, 131, 132]).await?;
    delivered(&wechat, 1).await?;
    eventually(SOON, "the deleted rule is not kept", || async {
        Ok((world.database.count("t_alert_rule_last_good").await? == 1).then_some(()))
    })
    .await?;

    let listed = document(&world, &["rules", "list", "--from-db", "--json"]).await?;
    ensure!(listed["rules"][0]["last_good"].is_string(), "{listed}");
    let instead = listed["refused"][0]["instead"].as_str().unwrap_or_default();
    ensure!(instead.contains("last good version"), "{listed}");
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_cannot_be_read_delay_the_start_and_later_change_nothing() -> Result<()> {
    let (world, wechat) = seeded("norules").await?;
    let (away, back) =
        ("RENAME TABLE t_alert_rules TO rules_away", "RENAME TABLE rules_away TO t_alert_rules");
    world.database.execute(away).await?;
    let gateway = world.gateway().start().await?;
    let mut alerter = world.alerter(&wechat).env("RULES_INTERVAL", "1s").spawn()?;
    eventually(SOON, "the alerter waits for its rules", || async {
        let answer = http::get(&alerter.admin("/readyz")).await?;
        ensure!(answer.text.contains("the rules could not be read yet"), "{}", answer.text);
        Ok((answer.status == 503).then_some(()))
    })
    .await?;
    ensure!(http::get(&alerter.admin("/livez")).await?.status == 200, "it stays alive");
    world.database.execute(back).await?;
    alerter.ready().await?;

    let failed = alerter.metric("alerter_rule_load_errors_total", "").await?;
    world.database.execute(away).await?;
    eventually(SOON, "the rules cannot be read", || async {
        let now = alerter.metric("alerter_rule_load_errors_total", "").await?;
        Ok((now > failed).then_some(()))
    })
    .await?;
    let now = jiff::Timestamp::now().as_second();
    measure(&gateway, &world.device(1), now - 300, &[130, 131, 132]).await?;
    delivered(&wechat, 1).await?;
    ensure!(http::get(&alerter.admin("/readyz")).await?.status == 200, "the last rules stay");
    world.database.execute(back).await?;
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_on_the_channel_brings_a_changed_rule_into_force_at_once() -> Result<()> {
    let (world, wechat) = seeded("announced").await?;
    // The interval is long: only the message on the channel can bring the second rule.
    let alerter = world.alerter(&wechat).env("RULES_INTERVAL", "1h").start().await?;
    rules(&alerter, "valid", 1.0).await?;
    let second = "INSERT INTO t_alert_rules (rule_type, physical_sign, threshold_min) \
                  VALUES ('BLOOD_OXYGEN_LOW_ALERT', 'blood_oxygen', 92)";
    world.database.execute(second).await?;
    eventually(SOON, "the second rule is in force", || async {
        // Publish the message again and again: nothing shows when the alerter has begun to listen.
        world.cache.announce_rules().await?;
        Ok((alerter.metric("alerter_rules", "state=\"valid\"").await? == 2.0).then_some(()))
    })
    .await?;
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_weakens_the_template_or_cannot_open_is_counted_and_logged_once() -> Result<()>
{
    let (world, wechat) = seeded("weakens").await?;
    let add = |rule_type: &str, trend: u32| {
        format!(
            "INSERT INTO t_alert_rules (customer_id, rule_type, physical_sign, threshold_max, \
             severity_level, trend_duration) VALUES (7, '{rule_type}', 'heart_rate', 140, 'minor', \
             {trend})"
        )
    };
    world.database.execute(&add("HEARTRATE_HIGH_ALERT", 10)).await?;
    let alerter = world.alerter(&wechat).env("RULES_INTERVAL", "1s").start().await?;
    rules(&alerter, "weakens", 1.0).await?;
    rules(&alerter, "cannot_open", 1.0).await?;
    // The rules were read again since.
    world.database.execute(&add("another", 1)).await?;
    rules(&alerter, "valid", 3.0).await?;
    rules(&alerter, "cannot_open", 1.0).await?;
    let logged = alerter.output().matches("overrides more severe rules of the template").count();
    ensure!(logged == 1, "{logged} times");
    let command = ["rules", "list", "--from-db", "--customer-id", "7", "--json"];
    let listed = document(&world, &command).await?;
    let warnings = listed["rules"][0]["warnings"].as_array().map_or(0, Vec::len);
    ensure!(warnings == 2, "{listed}");
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backtest_says_who_would_be_notified_of_what_under_other_rules() -> Result<()> {
    let world = world("backtest").await?;
    platform::seed(&world, &[HEART_RATE_HIGH]).await?;
    let gateway = world.gateway().start().await?;
    let now = jiff::Timestamp::now().as_second();
    measure(&gateway, &world.device(1), now - 300, &[130, 131, 132, 80]).await?;
    measure(&gateway, &world.device(2), now - 300, &[150, 151, 152, 80]).await?;
    let file = world.logs.join("rules.yaml");
    let rules = "[{id: 1, physical_sign: heart_rate, threshold_max: 140, trend_duration: 3}]";
    std::fs::write(&file, rules)?;
    let at = |second: i64| jiff::Timestamp::from_second(second).map(|at| at.to_string());
    let (file, from, to) = (file.display().to_string(), at(now - 600)?, at(now + 600)?);
    let arguments = [
        "backtest",
        "--rules",
        file.as_str(),
        "--from",
        from.as_str(),
        "--to",
        to.as_str(),
        "--json",
    ];
    let found = document(&world, &arguments).await?;
    ensure!(found["records"]["evaluated"] == 8, "{found}");
    ensure!(found["rules"][0]["a"]["episodes"] == 2, "{found}");
    ensure!(found["rules"][0]["b"]["episodes"] == 1, "{found}");
    ensure!(found["differences"]["only_a"] == 1, "{found}");
    let listed = &found["differences"]["listed"][0];
    ensure!(listed["device_sn"] == world.device(1).as_str(), "{found}");
    ensure!(world.database.count("t_alert_info").await? == 0, "a backtest writes nothing");

    std::fs::write(&file, "[{id: 1, physical_sign: mood}]")?;
    let refused = world.launch("alerter", &arguments).finish().await?;
    ensure!(refused.code == Some(2) && refused.text.contains("mood"), "{}", refused.text);
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_rules_file_changes_nothing_until_somebody_means_it() -> Result<()> {
    let world = world("emptied").await?;
    let file = world.logs.join("rules.yaml");
    let rule =
        "[{id: 1, physical_sign: heart_rate, threshold_max: 120, notification_type: wechat}]";
    std::fs::write(&file, rule)?;
    let wechat = FakeWechat::start().await?;
    let launch = || {
        let launch = world.alerter(&wechat).env("RULES_INTERVAL", "1s");
        launch.env("RULES_FILE", file.display().to_string())
    };
    let (gateway, alerter) = tokio::try_join!(world.gateway().start(), launch().start())?;
    breach(&gateway, &world.device(1)).await?;
    delivered(&wechat, 1).await?;
    let kept = "SELECT COUNT(*) FROM t_alert_rule_last_good";
    eventually(SOON, "the rule is kept", || async {
        Ok((world.database.number(kept).await? == 1).then_some(()))
    })
    .await?;

    std::fs::write(&file, "")?;
    operators_get(&alerter, "rules_shrunk", SOON).await?;
    breach(&gateway, &world.device(2)).await?;
    delivered(&wechat, 2).await?;
    alerter.terminate().await?;

    // After a restart, the empty file still removes no rule.
    let alerter = launch().start().await?;
    breach(&gateway, &world.device(3)).await?;
    delivered(&wechat, 3).await?;
    let superseded = "SELECT COUNT(*) FROM t_alert_info WHERE alert_status = 'superseded'";
    ensure!(world.database.number(superseded).await? == 0, "an episode was closed");
    alerter.terminate().await?;

    let alerter = launch().env("ALLOW_NO_RULES", "true").start().await?;
    eventually(SOON, "the episodes of the rule are closed", || async {
        Ok((world.database.number(superseded).await? == 3).then_some(()))
    })
    .await?;
    finish(world, [gateway, alerter]).await
}
