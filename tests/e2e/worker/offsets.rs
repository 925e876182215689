//! `worker offsets`: a position moves on an operator's order only, and the ledger still balances.

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::kafka;
use ljwx_tests::stack::launch::Finished;
use ljwx_tests::stack::world::World;

use crate::support::{audit, codes, ensure_holds, finish, partition_of, send, settled, used};

async fn offsets(world: &World, arguments: &[&str]) -> Result<Finished> {
    world.launch("worker", &[&["offsets"], arguments].concat()).finish().await
}

async fn rows(world: &World) -> Result<Vec<Vec<Option<String>>>> {
    let sql = "SELECT device_sn, timestamp, id, heart_rate, create_time, last_source \
               FROM t_user_health_data ORDER BY device_sn, timestamp";
    world.database.rows(sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_changes_nothing_and_is_accounted_for() -> Result<()> {
    let (world, gateway, worker) = used("rewind").await?;
    let before = rows(&world).await?;
    let refused = offsets(&world, &["--to-start", "--execute"]).await?;
    ensure!(refused.code == Some(1), "with a member: {}", refused.text);
    ensure!(refused.text.contains("1 member(s)"), "{}", refused.text);
    ensure!(worker.terminate().await?.success(), "the worker ends well");
    let shown = offsets(&world, &["--to-start"]).await?;
    ensure!(shown.code == Some(0) && shown.text.contains("nothing was moved"), "{}", shown.text);
    ensure!(world.lag().await? == 0, "showing moves nothing");
    let moved = offsets(&world, &["--to-time", "2020-01-01 00:00:00", "--execute"]).await?;
    ensure!(moved.code == Some(0), "{}", moved.text);
    ensure!(world.lag().await? == 24, "{}", moved.text);
    ensure_holds(&world, &[]).await?;
    let worker = world.worker().start().await?;
    settled(&world).await?;
    ensure!(rows(&world).await? == before, "a replay changed rows");
    let report = ensure_holds(&world, &[]).await?;
    let totals = &report["totals"];
    ensure!(totals["rewound"] == 24 && totals["merged"] == 26, "{totals:#}");
    ensure!(totals["dead_lettered"] == 2 && totals["stored"] == 20, "{totals:#}");
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_passed_over_is_accounted_for_and_can_be_named() -> Result<()> {
    let (world, gateway, worker) = used("skip").await?;
    ensure!(worker.terminate().await?.success(), "the worker ends well");
    let device = world.device(1);
    send(&gateway, &device, "2025-09-02 19:00", &[90, 91]).await?;
    let partition = partition_of(&world, 1).await?.to_string();
    let beyond = ["--partition", &partition, "--to-offset", "1000", "--execute"];
    let refused = offsets(&world, &beyond).await?;
    ensure!(refused.code == Some(1) && refused.text.contains("cannot go to"), "{}", refused.text);
    let moved = offsets(&world, &["--to-end", "--execute"]).await?;
    ensure!(moved.code == Some(0) && moved.text.contains("moved 1 partition"), "{}", moved.text);
    let report = ensure_holds(&world, &[]).await?;
    ensure!(report["totals"]["skipped_gap"] == 2, "{:#}", report["totals"]);
    let (code, report) = audit(&world, &["--device", &device]).await?;
    ensure!(code == Some(1) && report["readings"]["missing"] == 2, "{report:#}");
    ensure!(codes(&report, "failure") == ["missing_readings"], "{report:#}");
    let worker = world.worker().start().await?;
    send(&gateway, &device, "2025-09-02 20:00", &[92]).await?;
    settled(&world).await?;
    ensure!(rows(&world).await?.len() == 21, "the two that were passed over stay out");
    ensure_holds(&world, &[]).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_outside_the_topic_stops_the_worker_with_the_way_out() -> Result<()> {
    let (world, gateway, worker) = used("outside").await?;
    ensure!(worker.terminate().await?.success(), "the worker ends well");
    let device = world.device(1);
    send(&gateway, &device, "2025-09-02 19:00", &[90, 91, 92]).await?;
    let partition = partition_of(&world, 1).await?;
    let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
    let end = kafka::watermarks(brokers, topic).await?;
    let end = end.iter().find(|end| end.partition == partition).context("partition")?.high;
    kafka::delete_before(brokers, topic, partition, end - 1).await?;
    let (code, report) = audit(&world, &[]).await?;
    ensure!(code == Some(1) && codes(&report, "failure") == ["out_of_range"], "{report:#}");
    let stopped = world.worker().start().await.err().context("the worker starts")?.to_string();
    let low = end - 1;
    let command = format!("worker offsets --partition {partition} --to-offset {low} --execute");
    ensure!(stopped.contains(&command), "{stopped}");
    ensure!(stopped.contains(&format!("{} to {end}", end - 1)), "{stopped}");
    let arguments: Vec<_> = command.split(' ').skip(2).collect();
    let moved = offsets(&world, &arguments).await?;
    ensure!(moved.code == Some(0), "{}", moved.text);
    let worker = world.worker().start().await?;
    settled(&world).await?;
    ensure!(rows(&world).await?.len() == 21, "the last of the three is still there");
    let report = ensure_holds(&world, &[]).await?;
    ensure!(report["totals"]["skipped_gap"] == 2, "{:#}", report["totals"]);
    finish(world, [gateway, worker]).await
}
