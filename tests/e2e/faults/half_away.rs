//! Servers that can be reached and serve only in part. The services say what is refused, continue
//! with the rest, and recover by themselves.

use anyhow::{Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::clients::mysql::Database;
use ljwx_tests::fakes::platform::{self, HEART_RATE_HIGH};
use ljwx_tests::fakes::tcp_proxy::Proxy;
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::stack::accounts::Account;
use ljwx_tests::stack::own_server::{OwnServer, Room};
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use tokio::net::TcpListener;

use crate::support::{
    AT, RECOVERED_WITHIN, SOON, delivered, evaluated, finish, measure, seeded, send, settled,
    shown, world,
};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_user_without_a_permission_is_named_and_costs_only_what_it_forbids() -> Result<()> {
    let world = world("noperm").await?;
    let user = world.app_id();
    let rules = [&["on", "+@all", "resetchannels"][..], &KEYS[..]].concat();
    let url = world.cache.set_user(&user, &rules).await?;
    // A slow answer would count as a batch that missed Redis.
    let worker = world.worker().env("REDIS_URL", url).env("REDIS_TIMEOUT", "5s");
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), worker.start())?;
    // A worker that is not connected yet misses batches, and forgets what Redis refused.
    says(&worker, None).await?;
    let devices = [world.device(1), world.device(2)];
    for (minute, device) in ["2025-09-02 16:01", "2025-09-02 16:02"].iter().zip(&devices) {
        send(&gateway, device, minute, &[80]).await?;
        shown(&world.cache, device, &format!("{minute}:00")).await?;
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
    shown(&world.cache, &devices[1], &format!("{AT}:00")).await?;
    says(&worker, None).await?;
    let cache = world.cache.clone();
    finish(world, [gateway, worker]).await?;
    cache.remove_user(&user).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_ends_within_its_limit_if_mysql_takes_connections_and_says_nothing() -> Result<()>
{
    let world = world("mute").await?;
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
    let (world, wechat) = seeded("unheard").await?;
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

/// Makes a server the standby of the world's database, with the same accounts. The standby misses
/// what is written later.
async fn standby(world: &World, server: &OwnServer) -> Result<Database> {
    let standby = Database::create(server.url(), world.database.name()).await?;
    let migrate = world.launch("worker", &["migrate"]).env("MYSQL_URL", standby.url());
    let migrated = migrate.finish().await?;
    ensure!(migrated.code == Some(0), "{}", migrated.text);
    world.accounts.grant(&standby).await?;
    world.database.copy_to(&standby).await?;
    Ok(standby)
}

/// Assumes that the standby has every committed row, so nothing is written during the failover, and
/// that only new connections reach the standby.
#[tokio::test(flavor = "multi_thread")]
async fn a_demoted_primary_that_keeps_its_connections_is_left_by_every_program() -> Result<()> {
    let (first, second) =
        tokio::try_join!(OwnServer::start(Room::FileSize), OwnServer::start(Room::FileSize))?;
    let world = World::on("demoted", &first).await?;
    world.migrate().await?;
    platform::seed(&world, &[HEART_RATE_HIGH]).await?;
    let wechat = FakeWechat::start().await?;
    let proxy = Proxy::start(world.database.url()).await?;
    let url = |account| proxy.url(&world.accounts.url(account));
    let worker = world.worker().env("MYSQL_URL", url(Account::Worker)?);
    let worker = worker.env("MAINTENANCE_MYSQL_URL", url(Account::Maintenance)?);
    let alerter = world.alerter(&wechat).env("MYSQL_URL", url(Account::Alerter)?);
    let (gateway, worker, alerter) =
        tokio::try_join!(world.gateway().start(), worker.start(), alerter.start())?;
    for service in [&worker, &alerter] {
        eventually(SOON, "every partition is claimed", || async {
            let owned = service.metric("consumer_partitions_owned", "").await?;
            Ok((owned == world.partitions() as f64).then_some(()))
        })
        .await?;
    }
    let now = jiff::Timestamp::now().as_second();
    measure(&gateway, &world.device(1), now - 300, &[80, 81]).await?;
    settled(&world).await?;
    evaluated(&world).await?;

    let standby = standby(&world, &second).await?;
    proxy.lead_to(standby.url())?;
    let while_demoted = async || {
        measure(&gateway, &world.device(2), now - 200, &[130, 131, 132]).await?;
        eventually(RECOVERED_WITHIN, "the new primary has readings and alert", || async {
            let readings = standby.count("t_user_health_data").await?;
            let alerts = standby.count("t_alert_info").await?;
            ensure!((readings, alerts) == (5, 1), "{readings} readings, {alerts} alerts");
            Ok(Some(()))
        })
        .await?;
        delivered(&wechat, 1).await?;
        let kept = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                    WHERE user REGEXP '_(worker|alerter)$'";
        eventually(RECOVERED_WITHIN, "no connection to the former primary is left", || async {
            Ok((world.database.number(kept).await? == 0).then_some(()))
        })
        .await?;
        for (program, command) in
            [("worker", &["audit"][..]), ("alerter", &["silence", "list"][..])]
        {
            let command = world.launch(program, command).env("MYSQL_URL", url(Account::Operator)?);
            let done = command.finish().await?;
            ensure!(done.code == Some(0), "{program}: {:?}: {}", done.code, done.text);
        }
        anyhow::Ok(())
    };
    world.database.while_set("read_only", "1", while_demoted).await?;
    ensure!(world.database.count("t_user_health_data").await? == 2, "the former primary took rows");
    // No service has ended meanwhile.
    finish(world, [gateway, worker, alerter]).await?;
    first.stop().await?;
    second.stop().await
}
