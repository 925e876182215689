//! Every operator alert rule fires on its cause and clears when the cause is gone.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use ljwx_tests::clients::prometheus::rule_names;
use ljwx_tests::stack::Server;
use ljwx_tests::stack::world::World;

use super::scenarios::{database_away, database_slow, never_notified, processes_gone, wrong_data};
use super::unnoticed::nobody_notices;
use super::watched::{SOON, Watched};

/// The rules that fire in [`servers_that_are_away_alert_operators_until_they_are_back`] while
/// servers that all tests share are stopped.
const OF_SERVERS: [&str; 3] = ["GatewayRefusing", "KafkaUnreachable", "RedisUnreachable"];

/// The rule that fires in the same test while Redis is up and rejects writes.
const OF_REDIS: [&str; 1] = ["RedisBehind"];

/// The rule that fires in [`a_clock_that_is_off_alerts_operators_until_it_is_right`].
const OF_CLOCKS: [&str; 1] = ["ClockOff"];

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_fires_on_its_cause_and_clears() -> Result<()> {
    // The scenarios run side by side: most of their time they wait for an age that is too high.
    let proved = tokio::try_join!(
        database_away(),
        database_slow(),
        never_notified(),
        nobody_notices(),
        processes_gone(),
        wrong_data(),
    )?;
    let proved = [proved.0, proved.1, proved.2, proved.3, proved.4, proved.5].concat();
    let mut unproved: BTreeSet<String> = rule_names()?.into_iter().collect();
    for name in proved.into_iter().chain(OF_SERVERS).chain(OF_REDIS).chain(OF_CLOCKS) {
        unproved.remove(name);
    }
    ensure!(unproved.is_empty(), "nobody has seen these fire: {unproved:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_away_alert_operators_until_they_are_back() -> Result<()> {
    let world = World::exclusive("opservers").await?;
    world.migrate().await?;
    let watched = Watched::start_in(world, |launch| launch).await?;
    let load = watched.load();
    watched.world.cache.configure("min-replicas-to-write", "1").await?;
    let fired = watched.prometheus.fire(&OF_REDIS, SOON).await;
    watched.world.cache.configure("min-replicas-to-write", "0").await?;
    fired?;
    watched.prometheus.clear(&OF_REDIS, SOON).await?;
    let kafka = Server::Kafka.stop().await?;
    let redis = Server::Redis.stop().await?;
    watched.prometheus.fire(&OF_SERVERS, SOON).await?;
    redis.end().await?;
    kafka.end().await?;
    watched.prometheus.clear(&OF_SERVERS, SOON).await?;
    drop(load);
    watched.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_alerts_operators_until_it_is_right() -> Result<()> {
    let world = World::exclusive("opclock").await?;
    world.migrate().await?;
    let (database, url) = (world.database.clone(), world.database.create_user().await?);
    let off = async move || {
        let watched = Watched::start_in(world, |launch| launch.env("MYSQL_URL", &url)).await?;
        watched.prometheus.fire(&OF_CLOCKS, SOON).await?;
        anyhow::Ok(watched)
    };
    // Each session of a user without rights on the server runs this statement.
    let clock = "SET timestamp = UNIX_TIMESTAMP() + 3600";
    let watched = database.while_set("init_connect", clock, off).await?;
    for id in database.sessions().await? {
        // The connection may have ended meanwhile.
        let _ = database.execute(&format!("KILL {id}")).await;
    }
    watched.prometheus.clear(&OF_CLOCKS, SOON).await?;
    watched.end().await
}
