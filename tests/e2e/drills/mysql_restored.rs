//! MySQL is lost and restored from a dump. The rest comes from the topic.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::mysql::Database;
use ljwx_tests::fakes::platform::{self, HEART_RATE_HIGH};
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use reqwest::Url;

use super::drill::Drill;
use crate::support::{SOON, delivered, evaluated, finish, measure, now, settled, world};

/// Three breaches, which open an episode.
const BREACH: [i32; 3] = [130, 131, 132];

/// A value that ends an episode.
const CALM: [i32; 1] = [80];

/// Age of a reading whose notification is delayed, in seconds.
const LONG_AGO: i64 = 40 * 60;

/// A time after which WeChat no longer recognises a message that is sent again.
const LATER: Duration = Duration::from_secs(11 * 60);

/// Writes the login of the database's client into the folder that is its home.
fn write_login(world: &World) -> Result<()> {
    let url = Url::parse(&world.stack.mysql_url).context("MYSQL_URL")?;
    let (host, port) = url.host_str().zip(url.port()).context("MYSQL_URL has no address")?;
    let (user, password) = (url.username(), url.password().unwrap_or_default());
    let login = format!(
        "[client]\nprotocol=tcp\nhost={host}\nport={port}\nuser={user}\npassword={password}\n"
    );
    std::fs::write(world.logs.join(".my.cnf"), login).context(".my.cnf")
}

/// Drops every table, as a lost server does.
async fn lose(database: &Database) -> Result<()> {
    let tables = "SELECT TABLE_NAME FROM information_schema.TABLES \
                  WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE = 'BASE TABLE'";
    for table in database.rows(tables).await?.into_iter().flatten().flatten() {
        database.execute(&format!("DROP TABLE `{table}`")).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_reaches_nobody_and_what_lasts_is_notified_once_more() -> Result<()> {
    let world = world("restored").await?;
    platform::seed(&world, &[HEART_RATE_HIGH]).await?;
    write_login(&world)?;
    let mut drill = Drill::read("MySQL from last night's dump", &world)?;
    drill.set("HOME", world.logs.display().to_string());
    drill.set("MYSQL_DATABASE", world.database.name());
    drill.set("DUMP", world.logs.join("dump.sql.gz").display().to_string());
    let wechat = FakeWechat::start().await?;
    let (gateway, worker, alerter) = tokio::try_join!(
        world.gateway().start(),
        world.worker().start(),
        world.alerter(&wechat).start(),
    )?;
    let [over, lasting, between, late, quiet] = [1, 2, 3, 4, 5].map(|number| world.device(number));

    // Two alerts are known to the dump. One of them ends after it.
    measure(&gateway, &over, now() - 300, &BREACH).await?;
    measure(&gateway, &lasting, now() - 300, &BREACH).await?;
    delivered(&wechat, 2).await?;
    eventually(SOON, "both notifications are settled", || async {
        let sent = "SELECT COUNT(*) FROM t_alert_outbox WHERE state = 'sent'";
        Ok((world.database.number(sent).await? == 2).then_some(()))
    })
    .await?;
    drill.step().await?;
    measure(&gateway, &over, now() - 200, &CALM).await?;
    measure(&gateway, &between, now() - 200, &BREACH).await?;
    measure(&gateway, &between, now() - 100, &CALM).await?;
    measure(&gateway, &late, now() - LONG_AGO, &BREACH).await?;
    measure(&gateway, &late, now(), &[133]).await?;
    delivered(&wechat, 6).await?;
    settled(&world).await?;
    evaluated(&world).await?;

    for service in [worker, alerter] {
        ensure!(service.terminate().await?.success(), "a service failed");
    }
    lose(&world.database).await?;
    measure(&gateway, &quiet, now(), &[80, 81, 82]).await?;
    drill.step().await?;
    let (worker, alerter) =
        tokio::try_join!(world.worker().start(), world.alerter(&wechat).start())?;
    settled(&world).await?;
    evaluated(&world).await?;
    drill.step().await?;
    ensure!(wechat.delivered() == 6, "{:#?}", wechat.messages());
    wechat.advance(LATER);
    let said = drill.step().await?;
    ensure!(said.contains("1 notification(s) dropped"), "the end that was notified: {said}");
    drill.step().await?;
    drill.end()?;

    eventually(SOON, "the silence is over", || async {
        Ok((alerter.metric("alerter_silences", "").await? == 0.0).then_some(()))
    })
    .await?;
    measure(&gateway, &late, now(), &[134]).await?;
    delivered(&wechat, 7).await?;
    measure(&gateway, &lasting, now(), &CALM).await?;
    delivered(&wechat, 8).await?;
    let messages = wechat.messages();
    let (again, end) = (messages[6].text(), messages[7].text());
    ensure!(again.contains(&late) && again.contains("延迟"), "{messages:#?}");
    ensure!(end.contains(&lasting) && end.contains("已恢复"), "{messages:#?}");
    ensure!(messages.len() == 8, "{messages:#?}");
    finish(world, [gateway, worker, alerter]).await
}
