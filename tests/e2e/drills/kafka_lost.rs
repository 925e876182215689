//! Kafka is lost with all topics. MySQL stays.

use anyhow::{Result, ensure};
use ljwx_tests::fakes::platform::{self, HEART_RATE_HIGH};
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::stack::Server;
use ljwx_tests::stack::world::World;

use super::drill::Drill;
use crate::support::{codes, ensure_holds, evaluated, finish, letters, send, settled, totals};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_stays_and_a_new_cluster_is_stored_behind_it() -> Result<()> {
    let world = World::exclusive("kafkalost").await?;
    world.migrate().await?;
    platform::seed(&world, &[HEART_RATE_HIGH]).await?;
    let mut drill = Drill::read("Kafka is lost", &world)?;
    let wechat = FakeWechat::start().await?;
    let (gateway, worker, alerter) = tokio::try_join!(
        world.gateway().start(),
        world.worker().start(),
        world.alerter(&wechat).start(),
    )?;
    // One reading becomes a dead letter, which is lost with Kafka, too.
    let table = "ALTER TABLE t_user_health_data MODIFY heart_rate";
    world.database.execute(&format!("{table} TINYINT NULL")).await?;
    for number in 1..=8 {
        send(&gateway, &world.device(number), "2025-09-02 16:09", &[80, 81, 82]).await?;
    }
    send(&gateway, &world.device(1), "2025-09-02 17:00", &[200]).await?;
    settled(&world).await?;
    evaluated(&world).await?;
    ensure!(letters(&world).await?.len() == 1, "no dead letter");
    world.database.execute(&format!("{table} INT NULL")).await?;

    let lost = Server::Kafka.lose().await?;
    tokio::try_join!(gateway.terminate(), worker.terminate(), alerter.terminate())?;
    lost.end().await?;
    let said = drill.step().await?;
    for group in [&world.worker_group, &world.alerter_group] {
        ensure!(said.contains(group), "{group} is not in: {said}");
    }
    let (gateway, worker, alerter) = tokio::try_join!(
        world.gateway().start(),
        world.worker().start(),
        world.alerter(&wechat).start(),
    )?;
    for number in 1..=8 {
        send(&gateway, &world.device(number), "2025-09-02 18:00", &[83, 84]).await?;
    }
    settled(&world).await?;
    evaluated(&world).await?;
    drill.step().await?;
    drill.end()?;
    ensure!(totals(&world).await? == (40, 1), "{:?}", totals(&world).await?);
    let notes = codes(&ensure_holds(&world, &[]).await?, "note");
    let known = |code: &String| ["topic_made_anew", "letters_expired"].contains(&code.as_str());
    ensure!(notes.iter().all(known), "{notes:?}");
    finish(world, [gateway, worker, alerter]).await
}
