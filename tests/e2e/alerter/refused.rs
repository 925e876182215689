//! Rows that MySQL rejects, and a source of rules that is suddenly empty: neither stops alerting.

use anyhow::{Result, ensure};
use ljwx_tests::fakes::platform::{self, HEART_RATE_HIGH, Rule};
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;

use crate::support::{SOON, delivered, judged, measure};

/// Sends breaches of a device's heart rate, some minutes old.
async fn breach(gateway: &Service, device: &str) -> Result<()> {
    let now = jiff::Timestamp::now().as_second();
    measure(gateway, device, now - 300, &[130, 131, 132]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_row_costs_itself_alone_and_its_message_goes_out() -> Result<()> {
    let world = World::shared("refused").await?.with_partitions(1);
    world.migrate().await?;
    // A character of four bytes, which the platform's table cannot store.
    let message = "𠮷 {device_sn} {sign} {value}";
    platform::seed(&world, &[Rule { message, ..HEART_RATE_HIGH }]).await?;
    let refused = world.device(1);
    for sql in [
        "ALTER TABLE t_alert_info MODIFY alert_desc VARCHAR(2000) CHARACTER SET utf8mb3".to_owned(),
        format!("ALTER TABLE t_alert_info ADD CONSTRAINT known CHECK (device_sn <> '{refused}')"),
    ] {
        world.database.execute(&sql).await?;
    }
    let wechat = FakeWechat::start().await?;
    let (gateway, alerter) =
        tokio::try_join!(world.gateway().start(), world.alerter(&wechat).start())?;
    for place in 1..=3 {
        breach(&gateway, &world.device(place)).await?;
    }
    delivered(&wechat, 3).await?;
    judged(&world).await?;
    let rows = "SELECT device_sn, alert_desc FROM t_alert_info ORDER BY device_sn";
    let rows = world.database.rows(rows).await?;
    let expected = [2, 3].map(|place| {
        let device = world.device(place);
        [Some(device.clone()), Some(format!("□ {device} 心率 132"))].to_vec()
    });
    ensure!(rows == expected, "{rows:?}");
    let counted = |table: &str| format!("table=\"{table}\"");
    let found = alerter.metric("alerter_refused_rows_total", &counted("t_alert_info")).await?;
    ensure!(found == 1.0, "{found} rows were refused");
    ensure!(alerter.output().contains("row_refused"), "operators hear of it");

    // The table changes under a running alerter, which cuts its rows to the new length.
    world.database.execute("UPDATE t_alert_info SET alert_type = 'x'").await?;
    world
        .database
        .execute("ALTER TABLE t_alert_info MODIFY alert_type VARCHAR(9) NOT NULL")
        .await?;
    breach(&gateway, &world.device(4)).await?;
    delivered(&wechat, 4).await?;
    judged(&world).await?;
    let cut =
        format!("SELECT alert_type FROM t_alert_info WHERE device_sn = '{}'", world.device(4));
    let cut = world.database.row(&cut).await?;
    ensure!(cut == [Some("HEARTRAT…".to_owned())], "{cut:?}");
    gateway.terminate().await?;
    alerter.terminate().await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_rules_file_changes_nothing_until_somebody_means_it() -> Result<()> {
    let world = World::shared("emptied").await?;
    world.migrate().await?;
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
    eventually(SOON, "operators hear that there are no rules", || async {
        Ok(alerter.output().contains("rules_shrunk").then_some(()))
    })
    .await?;
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
    gateway.terminate().await?;
    alerter.terminate().await?;
    world.finish().await
}
