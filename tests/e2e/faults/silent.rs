//! A database that falls silent: it neither answers nor ends a connection. No service waits for it
//! longer than the time limit of a statement.

use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::accounting::history::Answered;
use ljwx_tests::fakes::platform::{self, HEART_RATE_HIGH};
use ljwx_tests::fakes::tcp_proxy::{Loss, Proxy};
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::stack::Server;
use ljwx_tests::stack::launch::Launch;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;

use crate::support::{
    AT, SOON, delivered, ends_well, ensure_holds, evaluated, finish, judge, load, measure, now,
    pipeline, seeded, send, settled, totals, world,
};

/// Far below the usual limit of a statement, and above the time that statements take here.
const LIMIT: &str = "2s";

fn impatient(launch: Launch) -> Launch {
    launch.env("MYSQL_STATEMENT_TIMEOUT", LIMIT)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_freezes_under_load_is_waited_for_and_nothing_is_lost() -> Result<()> {
    let world = World::exclusive("freezes").await?;
    world.migrate().await?;
    platform::seed(&world, &[HEART_RATE_HIGH]).await?;
    let wechat = FakeWechat::start().await?;
    let gateway = world.gateway().start().await?;
    let worker = impatient(world.worker()).start().await?;
    let alerter = impatient(world.alerter(&wechat)).start().await?;
    let fleet = load(&world, &gateway).await?;
    eventually(SOON, "something is stored", || async {
        Ok((world.database.count("t_user_health_data").await? > 100).then_some(()))
    })
    .await?;
    let frozen = Server::Database.freeze()?;
    let (breached, at) = (world.device(9_000), now() - 300);
    measure(&gateway, &breached, at, &[130, 131, 132]).await?;
    eventually(SOON, "worker and alerter have given up waiting", || async {
        let retries = alerter.metric("alerter_commit_retries_total", "").await?;
        let held = worker.output().contains("MySQL did not answer within");
        ensure!(held && retries >= 2.0, "worker: {held}, alerter: {retries}");
        Ok(Some(()))
    })
    .await?;
    drop(frozen);
    let mut report = fleet.finish().await?;
    for back in [0, 15, 30] {
        report.history.note(&breached, at - back, Answered::Unknown);
    }
    judge(&world, &report).await?;
    evaluated(&world).await?;
    delivered(&wechat, 1).await?;
    ensure_holds(&world, &[]).await?;
    let messages = wechat.messages();
    let count = messages.iter().filter(|message| message.text().contains(&breached)).count();
    ensure!(count == 1, "{count} messages about a breach");
    finish(world, [gateway, worker, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_falls_silent_costs_its_limit_and_nothing_else() -> Result<()> {
    let (world, wechat) = seeded("silent").await?;
    let url = world.database.url();
    let (front, back) = (Proxy::start(url).await?, Proxy::start(url).await?);
    let gateway = world.gateway().start().await?;
    let worker = impatient(world.worker()).env("MYSQL_URL", front.url(url)?).start().await?;
    let alerter =
        impatient(world.alerter(&wechat)).env("MYSQL_URL", back.url(url)?).start().await?;
    let breach = async |number: u8| {
        let device = world.device(number.into());
        measure(&gateway, &device, now() - 300, &[130, 131, 132]).await?;
        settled(&world).await?;
        evaluated(&world).await?;
        delivered(&wechat, number.into()).await?;
        // Otherwise the sender's COMMIT would be silenced in place of the next batch's.
        eventually(SOON, "the notification is settled", || async {
            let pending = world.database.count("t_alert_outbox WHERE state = 'pending'").await?;
            Ok((pending == 0).then_some(()))
        })
        .await
    };
    breach(1).await?;
    // Silence two commits, whose result the client cannot know. Then silence all connections at
    // once.
    for (number, loss) in [(2, Loss::Answer), (3, Loss::Request)] {
        front.lose_silently(loss);
        back.lose_silently(loss);
        breach(number).await?;
    }
    ensure!(front.lost() == 2 && back.lost() == 2, "{} and {}", front.lost(), back.lost());
    front.silence();
    back.silence();
    breach(4).await?;
    let stored = world.database.count("t_user_health_data").await?;
    let alerts = world.database.count("t_alert_info").await?;
    ensure!((stored, alerts) == (12, 4), "{stored} rows, {alerts} alerts");
    ensure!(wechat.delivered() == 4, "{:?}", wechat.messages());
    ensure_holds(&world, &[]).await?;
    finish(world, [gateway, worker, alerter]).await
}

/// Waits until the worker's monitor finds MySQL up, or down.
async fn mysql(worker: &Service, up: f64) -> Result<()> {
    eventually(SOON, &format!("dependency_up of MySQL is {up}"), || async {
        Ok((worker.metric("dependency_up", "mysql").await? == up).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_were_given_up_keep_no_place_of_the_pool() -> Result<()> {
    let world = world("places").await?;
    let url = world.database.url();
    let proxy = Proxy::start(url).await?;
    // The pool is so small that a few places which stay taken would be all of it.
    let worker = impatient(world.worker())
        .env("MYSQL_URL", proxy.url(url)?)
        .env("MYSQL_POOL_SIZE", "2")
        .env("BATCHES_IN_FLIGHT", "1");
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), worker.start())?;
    for number in 1..=2 {
        mysql(&worker, 1.0).await?;
        // The server falls silent, and each look at it is given up. Later another one takes its
        // address over: the connections of before never answer.
        proxy.hold();
        mysql(&worker, 0.0).await?;
        proxy.silence();
        proxy.flow();
        send(&gateway, &world.device(number), AT, &[80, 81]).await?;
        settled(&world).await?;
    }
    mysql(&worker, 1.0).await?;
    ends_well(world, [gateway, worker], 4).await
}

/// Longer than MySQL keeps a session that sends nothing.
const LET_GO_WITHIN: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_frozen_inside_a_transaction_lets_go_of_its_locks() -> Result<()> {
    let (world, gateway, frozen) = pipeline("letsgo").await?;
    let at = "2025-09-02 16:09";
    send(&gateway, &world.device(1), at, &[80]).await?;
    settled(&world).await?;
    let lock = world.database.lock("t_user_health_data").await?;
    send(&gateway, &world.device(1), at, &[81, 82]).await?;
    let waiting = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                   WHERE db = DATABASE() AND info LIKE 'INSERT INTO t_user_health_data (%'";
    eventually(SOON, "a batch waits inside its transaction", || async {
        Ok((world.database.number(waiting).await? > 0).then_some(()))
    })
    .await?;
    frozen.signal("STOP").await?;
    lock.release().await?;
    // It is ready only once it owns its partitions.
    let successor = world.worker().spawn()?;
    eventually(LET_GO_WITHIN, "the successor has written the batch", || async {
        Ok((totals(&world).await? == (2, 0)).then_some(()))
    })
    .await?;
    frozen.signal("CONT").await?;
    settled(&world).await?;
    ensure_holds(&world, &[]).await?;
    ensure!(frozen.terminate().await?.success(), "the frozen worker ends");
    finish(world, [gateway, successor]).await
}
