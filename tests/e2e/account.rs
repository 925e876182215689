//! The account holds in spite of those who run it: each group is of one kind.

use anyhow::{Result, ensure};
use tests::fake_wechat::FakeWechat;
use tests::launch::Launch;
use tests::platform::{self, HEART_RATE_HIGH};

use crate::alerts::judged;
use crate::audit::{ensure_holds, send};
use crate::pipeline::{finish, pipeline, settled};

/// Runs what must end by itself with exit code 1 and this in its log.
async fn ensure_refused(launch: Launch, says: &str) -> Result<()> {
    let refused = launch.finish().await?;
    ensure!(refused.code == Some(1), "ended with {:?}: {}", refused.code, refused.text);
    ensure!(refused.text.contains(says), "{says:?} is not in: {}", refused.text);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_and_an_alerter_never_share_a_group() -> Result<()> {
    let (world, gateway, worker) = pipeline("kinds").await?;
    platform::seed(&world, &[HEART_RATE_HIGH]).await?;
    let wechat = FakeWechat::start().await?;
    let alerter = world.alerter(&wechat).start().await?;
    for number in 1..=10 {
        send(&gateway, &world.device(number), "2025-09-02 16:09", &[80, 81, 82]).await?;
    }
    settled(&world).await?;
    judged(&world).await?;
    let intruder = world.alerter(&wechat).env("ALERTER_GROUP", &world.worker_group);
    ensure_refused(intruder, "Set ALERTER_GROUP to a name that no other").await?;
    let intruder = world.worker().env("WORKER_GROUP", &world.alerter_group);
    ensure_refused(intruder, "Set WORKER_GROUP to a name that no other").await?;
    // A row from before kinds were noted tells it by its counts.
    world.database.execute("UPDATE ingest_progress SET kind = NULL").await?;
    let intruder = world.alerter(&wechat).env("ALERTER_GROUP", &world.worker_group);
    ensure_refused(intruder, "is a worker's").await?;
    for number in 1..=10 {
        send(&gateway, &world.device(number), "2025-09-02 16:10", &[80, 81, 82]).await?;
    }
    settled(&world).await?;
    judged(&world).await?;
    let report = ensure_holds(&world, &[]).await?;
    ensure!(report["totals"]["stored"] == 60 && report["totals"]["processed"] == 0, "{report:#}");
    ensure!(alerter.terminate().await?.success(), "the alerter ends well");
    finish(world, gateway, worker).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_former_name_of_the_group_is_refused_with_the_new_one() -> Result<()> {
    for (program, variable) in [("worker", "WORKER_GROUP"), ("alerter", "ALERTER_GROUP")] {
        let refused = Launch::bare(program, &["run"])?
            .env("KAFKA_BROKERS", "127.0.0.1:9")
            .env("MYSQL_URL", "mysql://root@127.0.0.1:9/none")
            .env("REDIS_URL", "redis://127.0.0.1:9")
            .env("CONSUMER_GROUP", "ingest")
            .finish()
            .await?;
        ensure!(refused.code == Some(2), "{program}: {:?}: {}", refused.code, refused.text);
        for name in ["CONSUMER_GROUP", variable] {
            ensure!(refused.text.contains(name), "{program} says nothing of {name}");
        }
    }
    Ok(())
}
