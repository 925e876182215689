//! SIGTERM of each service under load: it drains, exits with 0, and its successor continues.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::mysql::LedgerRow;
use ljwx_tests::fakes::tcp_proxy::Proxy;
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;

use crate::support::{
    CAUGHT_UP_WITHIN, SOON, delivered, ensure_holds, evaluated, judge, load, measure, seeded,
    settled, world,
};

async fn drained(service: Service) -> Result<()> {
    let name = service.name().to_owned();
    let status = service.terminate().await?;
    ensure!(status.success(), "{name} ended with {status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_of_the_gateway_under_load_loses_nothing() -> Result<()> {
    let world = world("term_gateway").await?;
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    let address = gateway.listen().context("the gateway listens")?;
    let fleet = load(&world, &gateway).await?;
    pass(Duration::from_secs(3)).await;
    drained(gateway).await?;
    // The devices know only this address, as behind a load balancer.
    let gateway = world.gateway().at(address).start().await?;
    judge(&world, &fleet.finish().await?).await?;
    drained(gateway).await?;
    drained(worker).await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_of_a_worker_under_load_loses_and_doubles_nothing() -> Result<()> {
    let world = world("term_worker").await?;
    let (gateway, first, second) =
        tokio::try_join!(world.gateway().start(), world.worker().start(), world.worker().start(),)?;
    let fleet = load(&world, &gateway).await?;
    pass(Duration::from_secs(2)).await;
    drained(first).await?;
    pass(Duration::from_secs(1)).await;
    let third = world.worker().start().await?;
    drained(second).await?;
    judge(&world, &fleet.finish().await?).await?;
    drained(gateway).await?;
    drained(third).await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_of_the_alerter_under_load_loses_and_repeats_no_alert() -> Result<()> {
    let (world, wechat) = seeded("term_alerter").await?;
    let (gateway, worker, alerter) = tokio::try_join!(
        world.gateway().start(),
        world.worker().start(),
        world.alerter(&wechat).start(),
    )?;
    let fleet = load(&world, &gateway).await?;
    pass(Duration::from_secs(4)).await;
    drained(alerter).await?;
    pass(Duration::from_secs(2)).await;
    let alerter = world.alerter(&wechat).start().await?;
    judge(&world, &fleet.finish().await?).await?;
    eventually(CAUGHT_UP_WITHIN, "the alerter passes every record", || async {
        Ok((world.alerter_lag().await? == 0).then_some(()))
    })
    .await?;
    let ledger = world.database.ledger(&world.alerter_group).await?;
    ensure!(ledger.iter().all(LedgerRow::balances), "{ledger:?}");
    let doubled = "SELECT COUNT(*) - COUNT(DISTINCT dedup_key) FROM t_alert_info";
    ensure!(world.database.number(doubled).await? == 0, "an episode has two rows");
    // Three patients of the load drift into a breach.
    let alerts = world.database.count("t_alert_info").await?;
    ensure!(alerts == 3, "{alerts} alerts");
    delivered(&wechat, 3).await?;
    let messages = wechat.messages();
    let mut texts: Vec<_> = messages.iter().map(|message| message.text()).collect();
    texts.sort_unstable();
    texts.dedup();
    ensure!(texts.len() == messages.len(), "a message arrived twice: {messages:#?}");
    drained(alerter).await?;
    drained(gateway).await?;
    drained(worker).await?;
    world.finish().await
}

/// Starts a worker and an alerter with this session timeout, behind a proxy that can make the
/// database unreachable.
async fn pair(
    world: &World,
    wechat: &FakeWechat,
    proxy: &Proxy,
    session: &str,
) -> Result<[Service; 2]> {
    let url = proxy.url(world.database.url())?;
    let patient = |launch: ljwx_tests::stack::launch::Launch| {
        launch.env("SESSION_TIMEOUT", session).env("MYSQL_URL", &url).start()
    };
    let (worker, alerter) =
        tokio::try_join!(patient(world.worker()), patient(world.alerter(wechat)))?;
    eventually(SOON, "both have partitions", || async {
        let worker = worker.metric("consumer_partitions_owned", "").await?;
        let alerter = alerter.metric("consumer_partitions_owned", "").await?;
        Ok((worker > 0.0 && alerter > 0.0).then_some(()))
    })
    .await?;
    Ok([worker, alerter])
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_in_time_while_a_member_is_frozen_and_while_mysql_is_away() -> Result<()> {
    let (world, wechat) = seeded("term_late").await?;
    let proxy = Proxy::start(world.database.url()).await?;
    let gateway = world.gateway().start().await?;
    // A session that is longer than a process may take to stop.
    let frozen = pair(&world, &wechat, &proxy, "40s").await?;
    let leaving = pair(&world, &wechat, &proxy, "6s").await?;
    let now = jiff::Timestamp::now().as_second() - 600;
    measure(&gateway, &world.device(1), now, &[80, 130, 131, 132]).await?;
    settled(&world).await?;
    evaluated(&world).await?;

    // A new member starts a rebalance that waits for the frozen members.
    for service in &frozen {
        service.signal("STOP").await?;
    }
    let newcomers = [world.worker(), world.alerter(&wechat)].map(|launch| launch.spawn());
    let newcomers = newcomers.into_iter().collect::<Result<Vec<_>>>()?;
    pass(Duration::from_secs(3)).await;
    let ends = leaving.map(|service| tokio::spawn(drained(service)));
    for end in ends {
        end.await??;
    }
    for service in &frozen {
        service.signal("CONT").await?;
    }
    measure(&gateway, &world.device(1), now + 60, &[80, 133, 134, 135]).await?;
    settled(&world).await?;
    evaluated(&world).await?;

    // Readings that are read while the database is unreachable cannot be written. They stay in the
    // topic.
    for service in newcomers {
        drained(service).await?;
    }
    let owners = frozen;
    eventually(SOON, "the rest have all partitions", || async {
        let all = world.partitions() as f64;
        let worker = owners[0].metric("consumer_partitions_owned", "").await?;
        let alerter = owners[1].metric("consumer_partitions_owned", "").await?;
        Ok((worker == all && alerter == all).then_some(()))
    })
    .await?;
    proxy.away();
    measure(&gateway, &world.device(1), now + 120, &[80, 136, 137, 138]).await?;
    eventually(SOON, "both hold what they have read", || async {
        let worker = owners[0].metric("batch_held", "").await?;
        let alerter = owners[1].metric("batch_held", "").await?;
        Ok((worker > 0.0 && alerter > 0.0).then_some(()))
    })
    .await?;
    let ends = owners.map(|service| tokio::spawn(drained(service)));
    for end in ends {
        end.await??;
    }

    let (worker, alerter) =
        tokio::try_join!(world.worker().start(), world.alerter(&wechat).start())?;
    settled(&world).await?;
    evaluated(&world).await?;
    ensure_holds(&world, &[]).await?;
    let rows = world.database.count("t_user_health_data").await?;
    ensure!(rows == 12, "{rows} rows of 12 readings");
    for service in [gateway, worker, alerter] {
        drained(service).await?;
    }
    world.finish().await
}
