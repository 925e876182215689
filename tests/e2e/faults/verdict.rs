//! Tests the verdict itself: it must find every kind of mismatch.

use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::accounting::verdict;
use ljwx_tests::fleet::{self, Settings};

use crate::support::world;

const SOON: Duration = Duration::from_secs(30);
const NO_TIME: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn the_verdict_finds_what_is_missing_strange_stale_or_miscounted() -> Result<()> {
    let world = world("judge").await?;
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    let settings = Settings {
        url: gateway.url("/upload_health_data"),
        serial_prefix: world.serial_prefix(),
        duration: Duration::from_secs(2),
        faulty_ratio: 0.1,
        ..Settings::default()
    };
    let mut report = fleet::run(&settings).await?;
    verdict::of(&world, &report.history, SOON).await?.into_result()?;
    gateway.terminate().await?;
    worker.terminate().await?;

    report.history.note_rejected(1);
    for tampering in [
        "DELETE FROM t_user_health_data ORDER BY device_sn LIMIT 1",
        "INSERT INTO t_user_health_data (device_sn, timestamp) VALUES ('NOBODY', '2025-09-02 16:09:00')",
        "UPDATE t_user_health_data SET timestamp = timestamp + INTERVAL 1 DAY \
         WHERE device_sn <> 'NOBODY' ORDER BY device_sn DESC LIMIT 1",
        "UPDATE ingest_progress SET merged = merged + 1 ORDER BY `partition` LIMIT 1",
    ] {
        world.database.execute(tampering).await?;
    }
    let verdict = verdict::of(&world, &report.history, NO_TIME).await?;
    let problems = verdict.problems.join("\n");
    for expected in [
        "2: acknowledged but not stored",
        "2: stored but never sent",
        "the ledger does not balance",
        "the rejects topic holds",
        "devices whose Redis hash is not the newest",
    ] {
        ensure!(problems.contains(expected), "`{expected}` was not found:\n{problems}");
    }
    world.finish().await
}
