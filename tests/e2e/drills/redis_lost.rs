//! Redis is lost with all keys. MySQL and Kafka stay.

use anyhow::{Result, ensure};
use ljwx_tests::stack::Server;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;

use super::drill::Drill;
use crate::support::{SOON, finish, send, settled};

/// Devices of the test.
const DEVICES: usize = 8;

/// Time of the newest reading of each device.
const NEWEST: &str = "2025-09-02 16:09:01";

/// Waits until Redis shows the newest reading of every device.
async fn shown(world: &World) -> Result<()> {
    eventually(SOON, "Redis shows every device", || async {
        for number in 1..=DEVICES {
            let shown = world.cache.newest_time(&world.device(number)).await?;
            ensure!(shown.as_deref() == Some(NEWEST), "{number}: {shown:?}");
        }
        Ok(Some(()))
    })
    .await
}

/// Waits until the ledger has Redis as current.
async fn noted(world: &World) -> Result<()> {
    eventually(SOON, "redis_offset catches up", || async {
        let ledger = world.database.ledger(&world.worker_group).await?;
        Ok(ledger.iter().all(|row| row.redis_offset == row.next_offset).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_device_is_shown_again_without_a_new_reading() -> Result<()> {
    let world = World::exclusive("redislost").await?;
    world.migrate().await?;
    let mut drill = Drill::read("Redis is lost", &world)?;
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    for number in 1..=DEVICES {
        send(&gateway, &world.device(number), "2025-09-02 16:09", &[80, 81]).await?;
    }
    settled(&world).await?;
    shown(&world).await?;
    noted(&world).await?;
    Server::Redis.lose().await?.end().await?;
    shown(&world).await?;
    drill.set("WORKER_ADMIN", worker.admin(""));
    drill.set("DEVICE", world.device(1));
    drill.set("AT", NEWEST);
    drill.step().await?;
    drill.end()?;
    finish(world, [gateway, worker]).await
}
