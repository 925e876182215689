//! SIGTERM of each service under load: it drains, exits with 0, and its successor goes on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::fake_wechat::FakeWechat;
use tests::mysql::LedgerRow;
use tests::platform::{self, HEART_RATE_HIGH};
use tests::process::Service;
use tests::wait::{eventually, pass};
use tests::world::World;

use crate::faults::{CAUGHT_UP_WITHIN, judge, load};

async fn drained(service: Service) -> Result<()> {
    let name = service.name().to_owned();
    let status = service.terminate().await?;
    ensure!(status.success(), "{name} ended with {status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_of_the_gateway_under_load_loses_nothing() -> Result<()> {
    let world = World::shared("term_gateway").await?;
    world.migrate().await?;
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
    let world = World::shared("term_worker").await?;
    world.migrate().await?;
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
    let world = World::shared("term_alerter").await?;
    world.migrate().await?;
    platform::seed(&world, &[HEART_RATE_HIGH]).await?;
    let wechat = FakeWechat::start().await?;
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
