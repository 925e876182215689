//! A connection that is cut at a COMMIT: the worker finds out whether MySQL committed, and counts
//! the batch once.

use anyhow::{Result, ensure};
use ljwx_tests::fakes::tcp_proxy::{Loss, Proxy};
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;

use crate::support::{AT, RECOVERED_WITHIN, ends_well, held, send, settled, world};

/// Waits until the worker has counted this many readings as new rows, and none with another
/// outcome.
async fn counted(worker: &Service, stored: f64) -> Result<()> {
    eventually(RECOVERED_WITHIN, "the worker counts every reading", || async {
        let all = worker.metric("readings_total", "").await?;
        let new = worker.metric("readings_total", "outcome=\"stored\"").await?;
        ensure!(all <= stored && all == new, "{all} counted, {new} of them stored");
        Ok((all == stored).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_recognised_as_one_s_own() -> Result<()> {
    let worker = cut_at_commit("answer", Loss::Answer).await?;
    ensure!(worker.contains("ledger compare-and-set failed"), "{worker}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_never_arrived_is_made_good() -> Result<()> {
    let worker = cut_at_commit("request", Loss::Request).await?;
    ensure!(!worker.contains("ledger compare-and-set failed"), "{worker}");
    Ok(())
}

/// Cuts a batch's connection at its COMMIT and returns the worker's log.
async fn cut_at_commit(name: &str, loss: Loss) -> Result<String> {
    let world = world(name).await?;
    let proxy = Proxy::start(world.database.url()).await?;
    let worker = world.worker().env("MYSQL_URL", proxy.url(world.database.url())?);
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), worker.start())?;
    // A stored reading proves that the claims are committed: only a batch's COMMIT is left to cut.
    send(&gateway, &world.device(1), AT, &[80]).await?;
    settled(&world).await?;
    proxy.lose(loss);
    send(&gateway, &world.device(1), "2025-09-02 17:09", &[81, 82]).await?;
    send(&gateway, &world.device(2), "2025-09-02 17:09", &[83, 84]).await?;
    settled(&world).await?;
    held(&worker, "infrastructure", 1.0, "cannot write batch").await?;
    ensure!(proxy.lost() == 1, "{} connections were cut", proxy.lost());
    let again = "SELECT COUNT(*) FROM t_user_health_data WHERE deliveries <> 1";
    ensure!(world.database.number(again).await? == 0, "a reading was written twice");
    for number in [1, 2] {
        let device = world.device(number);
        eventually(RECOVERED_WITHIN, "Redis shows the newest all the same", || async {
            let time = world.cache.newest_time(&device).await?;
            Ok((time.as_deref() == Some("2025-09-02 17:09:01")).then_some(()))
        })
        .await?;
    }
    // This also holds if the answer was lost, although the retry finds the rows there.
    counted(&worker, 5.0).await?;
    let said = worker.output();
    // The partitions continue.
    send(&gateway, &world.device(1), "2025-09-02 18:09", &[85]).await?;
    send(&gateway, &world.device(2), "2025-09-02 18:09", &[86]).await?;
    settled(&world).await?;
    counted(&worker, 7.0).await?;
    ends_well(world, [gateway, worker], 7).await?;
    Ok(said)
}
