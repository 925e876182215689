//! A silence delays notifications and loses none.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::fakes::platform;
use ljwx_tests::fakes::tcp_proxy::Proxy;
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::stack::moved_clock::MovedClock;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;
use serde_json::{Value, json};

use super::people::counted;
use crate::support::{SOON, alerting, delivered, evaluated, finish, measure, report, seeded};

/// The longest until every replica knows a change of the silences.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(10);

/// The wait between two tries of what is owed, in seconds.
const OWED_INTERVAL: i64 = 60;

/// Long enough for an unwanted message to arrive.
const WHILE: Duration = Duration::from_secs(3);

/// Runs a command of the alerter. Returns its exit code and the JSON document it printed, if any.
async fn command(world: &World, arguments: &[&str]) -> Result<(Option<i32>, Value)> {
    let done = world.launch("alerter", arguments).env("USER", "ann").finish().await?;
    // Log lines follow the document.
    let document = serde_json::Deserializer::from_str(&done.text).into_iter().next();
    Ok((done.code, document.and_then(Result::ok).unwrap_or_default()))
}

async fn in_force(alerter: &Service, count: f64) -> Result<()> {
    eventually(IN_FORCE_WITHIN, &format!("{count} silences are known"), || async {
        Ok((alerter.metric("alerter_silences", "").await? == count).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_silenced_is_recorded_and_notified_once_the_silence_ends() -> Result<()> {
    let (world, wechat) = seeded("silence").await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    let (silenced, heard) = (world.device(1), world.device(2));
    let now = jiff::Timestamp::now().as_second();
    let add =
        ["silence", "add", "--reason", "watch in repair", "--for", "1h", "--device", &silenced];
    ensure!(command(&world, &add).await?.0 == Some(0), "silence add");
    in_force(&alerter, 1.0).await?;

    // Both devices breach. The silence must also cover the fourth reading, which would notify late.
    measure(&gateway, &silenced, now - 300, &[130, 131, 132, 133]).await?;
    measure(&gateway, &heard, now - 300, &[130, 131, 132, 133]).await?;
    delivered(&wechat, 1).await?;
    evaluated(&world).await?;
    let messages = wechat.messages();
    ensure!(messages.len() == 1 && messages[0].text().contains(&heard), "{messages:#?}");
    let states = "SELECT SUM(alert_status = 'NOTIFIED') * 10 + SUM(alert_status = 'pending') \
                  FROM t_alert_info";
    eventually(SOON, "both alerts are recorded, and one is notified", || async {
        Ok((world.database.number(states).await? == 11).then_some(()))
    })
    .await?;
    let counted = "SELECT SUM(suppressed) FROM t_alert_suppressed WHERE reason = 'silenced'";
    ensure!(world.database.number(counted).await? == 1, "and counted once");
    let metric = alerter.metric("alerter_notifications_total", "outcome=\"silenced\"").await?;
    ensure!(metric == 1.0, "{metric}");

    let (_, listed) = command(&world, &["silence", "list", "--json"]).await?;
    let id = listed[0]["id"].as_i64().with_context(|| format!("{listed:#}"))?.to_string();
    ensure!(listed[0]["state"] == "active" && listed[0]["author"] == "ann", "{listed:#}");
    ensure!(command(&world, &["silence", "end", &id]).await?.0 == Some(0), "silence end");
    ensure!(command(&world, &["silence", "end", &id]).await?.0 == Some(1), "it is over already");
    in_force(&alerter, 0.0).await?;
    measure(&gateway, &silenced, now - 200, &[134]).await?;
    delivered(&wechat, 2).await?;
    ensure!(wechat.messages()[1].text().contains(&silenced), "{:#?}", wechat.messages());
    let (_, listed) = command(&world, &["silence", "list", "--all", "--json"]).await?;
    ensure!(listed[0]["ended_by"] == "ann", "its end is kept: {listed:#}");

    eventually(SOON, "the report says that both were notified", || async {
        let (code, report) =
            command(&world, &["report", "--json", "--from", &wall_time(now - 3_600)]).await?;
        let line = &report["lines"][0];
        let counts = [&line["episodes"], &line["notified"], &line["suppressed"]["silenced"]];
        ensure!(code == Some(0) && counts == [2, 2, 1], "{report:#}");
        Ok(Some(()))
    })
    .await?;
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_of_everything_keeps_pending_messages_until_its_end() -> Result<()> {
    let (world, wechat) = seeded("silenceall").await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    let (device, now) = (world.device(1), jiff::Timestamp::now().as_second());
    measure(&gateway, &device, now - 300, &[130, 131, 132]).await?;
    delivered(&wechat, 1).await?;
    let add = ["silence", "add", "--reason", "moving the wards", "--for", "1h", "--all"];
    ensure!(command(&world, &add).await?.0 == Some(0), "silence add");
    in_force(&alerter, 1.0).await?;
    // The end is owed to those who were notified, and waits.
    measure(&gateway, &device, now - 200, &[84]).await?;
    let pending = "SELECT COUNT(*) FROM t_alert_outbox WHERE state = 'pending'";
    eventually(SOON, "the end is pending", || async {
        Ok((world.database.number(pending).await? == 1).then_some(()))
    })
    .await?;
    pass(WHILE).await;
    ensure!(wechat.delivered() == 1, "{:#?}", wechat.messages());
    let (_, listed) = command(&world, &["silence", "list", "--json"]).await?;
    let id = listed[0]["id"].as_i64().with_context(|| format!("{listed:#}"))?.to_string();
    ensure!(command(&world, &["silence", "end", &id]).await?.0 == Some(0), "silence end");
    delivered(&wechat, 2).await?;
    ensure!(wechat.messages()[1].text().contains("已恢复"), "{:#?}", wechat.messages());
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_missed_under_a_silence_is_notified_once_the_silence_ends() -> Result<()> {
    let world = World::shared("silentabsence").await?.with_partitions(1);
    world.migrate().await?;
    platform::seed(&world, &[]).await?;
    platform::add_absence_rule(&world, Duration::from_secs(6)).await?;
    let device = world.device(1);
    let add = ["silence", "add", "--reason", "shower", "--for", "1h", "--device", &device];
    ensure!(command(&world, &add).await?.0 == Some(0), "silence add");
    let wechat = FakeWechat::start().await?;
    let clock = MovedClock::create(&world.logs.join("clock")).await?;
    let alerter = clock.of(world.alerter(&wechat));
    let (gateway, alerter) = tokio::try_join!(world.gateway().start(), alerter.start())?;
    let now = jiff::Timestamp::now().as_second();
    report(&gateway, &device, now, json!({ "heart_rate": 70 })).await?;
    let missed = "SELECT COUNT(*) FROM t_alert_info WHERE alert_status = 'pending'";
    counted(&world, &gateway, missed, 1).await?;
    let silenced = "SELECT SUM(suppressed) FROM t_alert_suppressed WHERE reason = 'silenced'";
    ensure!(world.database.number(silenced).await? == 1, "the silence covers the alert");

    ensure!(command(&world, &["silence", "end", "1"]).await?.0 == Some(0), "silence end");
    in_force(&alerter, 0.0).await?;
    ensure!(wechat.delivered() == 0, "{:#?}", wechat.messages());
    clock.set(OWED_INTERVAL)?;
    delivered(&wechat, 1).await?;
    let text = wechat.messages()[0].text();
    ensure!(text.contains(&device) && text.contains("设备失联"), "{text}");
    finish(world, [gateway, alerter]).await
}

/// A server that an alerter needs.
#[derive(Clone, Copy)]
enum Server {
    Mysql,
    Redis,
    Wechat,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_owed_while_a_server_goes_away_is_notified_once() -> Result<()> {
    let (world, wechat) = seeded("owedaway").await?;
    let mysql = Proxy::start(world.database.url()).await?;
    let redis = Proxy::start(&world.stack.redis_url).await?;
    let clock = MovedClock::create(&world.logs.join("clock")).await?;
    let alerter = clock
        .of(world.alerter(&wechat))
        .env("MYSQL_URL", mysql.url(world.database.url())?)
        .env("REDIS_URL", redis.url(&world.stack.redis_url)?);
    let (gateway, alerter) = tokio::try_join!(world.gateway().start(), alerter.start())?;
    let failed = "SELECT COUNT(*) FROM t_alert_outbox WHERE state = 'pending' AND attempts > 0";
    let mut moved = 0;
    for (count, server) in (1_u32..).zip([Server::Mysql, Server::Redis, Server::Wechat]) {
        let device = world.device(count as usize);
        let add = ["silence", "add", "--reason", "shower", "--for", "1h", "--device", &device];
        ensure!(command(&world, &add).await?.0 == Some(0), "silence add");
        in_force(&alerter, 1.0).await?;
        let now = jiff::Timestamp::now().as_second() + moved;
        measure(&gateway, &device, now - 60, &[130, 131, 132]).await?;
        eventually(SOON, "a notification is owed", || async {
            let owed = alerter.metric("alerter_notifications_owed", "silenced").await?;
            Ok((owed == 1.0).then_some(()))
        })
        .await?;
        match server {
            Server::Mysql => mysql.away(),
            Server::Redis => redis.away(),
            Server::Wechat => wechat.down(),
        }
        let id = count.to_string();
        ensure!(command(&world, &["silence", "end", &id]).await?.0 == Some(0), "silence end");
        if !matches!(server, Server::Mysql) {
            in_force(&alerter, 0.0).await?;
        }
        moved += OWED_INTERVAL;
        clock.set(moved)?;
        eventually(SOON, "the alerter has met the outage", || async {
            Ok(match server {
                Server::Mysql => alerter.metric("dependency_up", "mysql").await? == 0.0,
                Server::Redis => alerter.metric("dependency_up", "redis").await? == 0.0,
                Server::Wechat => world.database.number(failed).await? == 1,
            }
            .then_some(()))
        })
        .await?;
        mysql.back();
        redis.back();
        wechat.up();
        if matches!(server, Server::Mysql) {
            // The try without MySQL did not know of the silence's end. The next one does.
            in_force(&alerter, 0.0).await?;
            moved += OWED_INTERVAL;
            clock.set(moved)?;
        }
        delivered(&wechat, count.into()).await?;
        let last = wechat.messages().pop().context("a message")?.text();
        ensure!(last.contains(&device), "{last}");
    }
    evaluated(&world).await?;
    ensure!(wechat.delivered() == 3, "{:#?}", wechat.messages());
    finish(world, [gateway, alerter]).await
}
