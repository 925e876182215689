//! Workers that start, stop, die and freeze under load: totals stay exact, and no offset moves
//! back.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::clients::mysql::Database;
use ljwx_tests::fleet::{Fleet, Settings};
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;
use tokio_util::sync::CancellationToken;

use crate::support::{SOON, finish, judge};

/// Long enough for every change below and for a session to expire.
const LOAD: Duration = Duration::from_secs(50);

/// Longer than the members' session.
const FROZEN: Duration = Duration::from_secs(14);

/// Checks the ledger until `stop`. Errors if an offset moves back or a row does not balance.
async fn watch(database: Database, group: String, stop: CancellationToken) -> Result<()> {
    let mut seen: HashMap<i64, i64> = HashMap::new();
    while !stop.is_cancelled() {
        for row in database.ledger(&group).await? {
            let before = seen.insert(row.partition, row.next_offset).unwrap_or(0);
            ensure!(row.next_offset >= before, "{} after {before}: {row:?}", row.next_offset);
            ensure!(row.balances(), "{row:?}");
        }
        pass(Duration::from_millis(100)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_to_four_to_two_workers_with_one_killed_and_one_frozen_keep_totals_exact() -> Result<()>
{
    let world = World::shared("rebalance").await?.with_partitions(8);
    world.migrate().await?;
    let (gateway, first) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    let stop = CancellationToken::new();
    let watched =
        tokio::spawn(watch(world.database.clone(), world.worker_group.clone(), stop.clone()));
    let fleet = Fleet::start(&Settings {
        url: gateway.url("/upload_health_data"),
        serial_prefix: world.serial_prefix(),
        devices: 400,
        rate: 200.0,
        duration: LOAD,
        ..Settings::default()
    })
    .await?;
    let (second, third, fourth) =
        tokio::try_join!(world.worker().start(), world.worker().start(), world.worker().start())?;
    pass(Duration::from_secs(3)).await;
    second.kill().await?;
    third.signal("STOP").await?;
    pass(FROZEN).await;
    // The worker may still try to write the batch that it held when it froze. The ledger must fence
    // it.
    third.signal("CONT").await?;
    eventually(SOON, "the frozen worker takes part again", || async {
        let owned = third.metric("consumer_partitions_owned", "").await?;
        Ok((owned > 0.0).then_some(()))
    })
    .await?;
    fourth.terminate().await?;
    let report = fleet.finish().await?;
    judge(&world, &report).await?;
    stop.cancel();
    watched.await??;
    finish(world, [gateway, first, third]).await
}
