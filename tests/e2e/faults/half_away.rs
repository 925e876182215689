//! Servers that can be reached and serve only in part. The services say what is refused, continue
//! with the rest, and recover by themselves.

use anyhow::{Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::fakes::platform::{self, HEART_RATE_HIGH};
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use tokio::net::TcpListener;

use crate::support::{AT, SOON, finish, send};

/// The rules that let a user use the worker's keys.
const KEYS: [&str; 2] = ["~health_data:*", "~ljwx:worker:sentinel:*"];

/// Waits until health and metric agree on what Redis refuses, if anything.
async fn says(worker: &Service, refused: Option<&str>) -> Result<()> {
    eventually(SOON, &format!("the worker says that Redis refuses {refused:?}"), || async {
        let answer = http::get(&worker.admin("/api/batch_processor/health")).await?;
        let (status, reasons) = (&answer.json["status"], answer.json["reasons"].to_string());
        let up = worker.metric("dependency_up", "redis").await?;
        let said = match refused {
            Some(what) => reasons.contains(what) && status == "degraded" && up == 0.0,
            None => !reasons.contains("redis") && up == 1.0,
        };
        ensure!(said, "{} {up}", answer.text);
        Ok(Some(()))
    })
    .await
}

async fn shown(world: &World, device: &str, time: &str) -> Result<()> {
    eventually(SOON, &format!("{device} is shown at {time}"), || async {
        Ok((world.cache.newest_time(device).await?.as_deref() == Some(time)).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_user_without_a_permission_is_named_and_costs_only_what_it_forbids() -> Result<()> {
    let world = World::shared("noperm").await?;
    world.migrate().await?;
    let user = world.app_id();
    let rules = [&["on", "+@all", "resetchannels"][..], &KEYS[..]].concat();
    let url = world.cache.set_user(&user, &rules).await?;
    let worker = world.worker().env("REDIS_URL", url);
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), worker.start())?;
    // A worker that is not connected yet misses batches, and forgets what Redis refused.
    says(&worker, None).await?;
    let devices = [world.device(1), world.device(2)];
    for (minute, device) in ["2025-09-02 16:01", "2025-09-02 16:02"].iter().zip(&devices) {
        send(&gateway, device, minute, &[80]).await?;
        shown(&world, device, &format!("{minute}:00")).await?;
    }
    says(&worker, Some("redis refuses messages")).await?;
    ensure!(worker.metric("redis_errors_total", "").await? == 0.0, "a batch missed Redis");
    let lines = worker.output().matches("cannot publish changed hashes").count();
    ensure!(lines == 1, "{lines} lines about one outage");

    world.cache.set_user(&user, &["allchannels"]).await?;
    let mut published = world.cache.subscribe(&devices[0]).await?;
    send(&gateway, &devices[0], AT, &[81]).await?;
    eventually(SOON, "the change is published", || {
        let messages = published.take();
        async move { Ok((!messages.is_empty()).then_some(())) }
    })
    .await?;
    published.end().await?;
    says(&worker, None).await?;

    world.cache.set_user(&user, &["resetkeys"]).await?;
    says(&worker, Some("redis refuses writes: NOPERM")).await?;
    send(&gateway, &devices[1], AT, &[82]).await?;
    world.cache.set_user(&user, &KEYS).await?;
    shown(&world, &devices[1], &format!("{AT}:00")).await?;
    says(&worker, None).await?;
    let cache = world.cache.clone();
    finish(world, [gateway, worker]).await?;
    cache.remove_user(&user).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_ends_within_its_limit_if_mysql_takes_connections_and_says_nothing() -> Result<()>
{
    let world = World::shared("mute").await?;
    world.migrate().await?;
    // The kernel completes connections that are never accepted.
    let mute = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("mysql://nobody@{}/nothing", mute.local_addr()?);
    for command in [&["offsets"][..], &["audit"], &["pause", "--reason", "a test"]] {
        let command = world.launch("worker", command).env("MYSQL_URL", &url);
        let done = command.env("MYSQL_ACQUIRE_TIMEOUT", "1s").finish().await?;
        let named = done.text.contains("no connection to MySQL within 1 s");
        ensure!(named && done.code.is_some_and(|code| code != 0), "{:?} {}", done.code, done.text);
    }
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alerter_that_may_not_subscribe_says_so_until_it_may() -> Result<()> {
    let world = World::shared("unheard").await?;
    world.migrate().await?;
    platform::seed(&world, &[HEART_RATE_HIGH]).await?;
    let wechat = FakeWechat::start().await?;
    let user = world.app_id();
    let url = world.cache.set_user(&user, &["on", "allkeys", "+@all", "resetchannels"]).await?;
    let alerter = world.alerter(&wechat).env("REDIS_URL", url).start().await?;
    let up = async |expected: f64| {
        eventually(SOON, &format!("dependency_up of Redis is {expected}"), || async {
            let up = alerter.metric("dependency_up", "redis").await?;
            Ok((up == expected).then_some(()))
        })
        .await
    };
    eventually(SOON, "it says why", || async {
        Ok(alerter.output().contains("cannot subscribe to rule changes").then_some(()))
    })
    .await?;
    up(0.0).await?;
    world.cache.set_user(&user, &["allchannels"]).await?;
    up(1.0).await?;
    ensure!(alerter.terminate().await?.success(), "the alerter ends well");
    let cache = world.cache.clone();
    world.finish().await?;
    cache.remove_user(&user).await
}
