//! `worker offsets`: a position moves on an operator's order only, and the ledger still balances.

use anyhow::{Context, Result, ensure};
use ljwx_service::kafka::partitioner;
use ljwx_tests::clients::{http, kafka};
use ljwx_tests::stack::launch::Finished;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;

use crate::support::{
    SOON, audit, codes, ensure_holds, finish, partition_of, send, settled, used, world,
};

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
async fn a_move_of_alerters_before_their_first_claim_keeps_the_count_of_rows() -> Result<()> {
    let (world, gateway, worker) = used("unclaimed").await?;
    ensure_holds(&world, &[]).await?;
    let group = &world.alerter_group;
    let moved = offsets(&world, &["--group", group, "--to-end", "--execute"]).await?;
    ensure!(moved.code == Some(0) && moved.text.contains("moved "), "{}", moved.text);
    ensure_holds(&world, &[]).await?;
    // As the first claim of an alerter does.
    let claimed =
        format!("UPDATE ingest_progress SET kind = 'alerter' WHERE consumer_group = '{group}'");
    world.database.execute(&claimed).await?;
    ensure_holds(&world, &[]).await?;
    finish(world, [gateway, worker]).await
}

/// Returns the health endpoint's reasons, as one text.
async fn reasons(worker: &Service) -> Result<String> {
    let answer = http::get(&worker.admin("/api/batch_processor/health")).await?;
    Ok(answer.json["reasons"].to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_outside_the_topic_holds_only_its_partition_and_names_the_way_out() -> Result<()>
{
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
    let worker = world.worker().start().await?;
    let low = end - 1;
    let command = format!("worker offsets --partition {partition} --to-offset {low} --execute");
    eventually(SOON, "the health endpoint names the way out", || async {
        let reasons = reasons(&worker).await?;
        let named = reasons.contains(&command) && reasons.contains(&format!("{low} to {end}"));
        Ok(named.then_some(()))
    })
    .await?;
    ensure!(worker.output().contains(&command), "{}", worker.output());
    let unclaimed = worker.metric("consumer_partitions_unclaimed", "").await?;
    ensure!(unclaimed == 1.0, "{unclaimed} partitions are unclaimed");
    // A reading of another partition is stored meanwhile.
    let partitions = world.partitions().try_into()?;
    let beside = (2..)
        .map(|number| world.device(number))
        .find(|device| partitioner::partition_of(device.as_bytes(), partitions) != partition);
    let beside = beside.context("no device is in another partition")?;
    send(&gateway, &beside, "2025-09-02 19:00", &[80]).await?;
    let stored = 21;
    eventually(SOON, "the other partitions continue", || async {
        Ok((world.database.count("t_user_health_data").await? == stored).then_some(()))
    })
    .await?;
    // The worker runs: nobody works on the partition.
    let arguments: Vec<_> = command.split(' ').skip(2).collect();
    let moved = offsets(&world, &arguments).await?;
    ensure!(moved.code == Some(0), "{}", moved.text);
    settled(&world).await?;
    let rows = world.database.count("t_user_health_data").await?;
    ensure!(rows == stored + 1, "{rows} rows: the last of the three is there");
    let reasons = reasons(&worker).await?;
    ensure!(!reasons.contains("worker offsets"), "{reasons}");
    let report = ensure_holds(&world, &[]).await?;
    ensure!(report["totals"]["skipped_gap"] == 2, "{:#}", report["totals"]);
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn running_workers_follow_a_forced_move_where_the_broker_assigns_too() -> Result<()> {
    let world = world("forced").await?;
    let worker = world.worker().env("GROUP_PROTOCOL", "consumer");
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), worker.start())?;
    for number in 1..=6 {
        send(&gateway, &world.device(number), "2025-09-02 16:09", &[80, 81]).await?;
    }
    settled(&world).await?;
    let refused = offsets(&world, &["--to-start", "--execute"]).await?;
    ensure!(refused.code == Some(1) && refused.text.contains("1 member(s)"), "{}", refused.text);
    let moved = offsets(&world, &["--to-start", "--execute", "--force"]).await?;
    ensure!(moved.code == Some(0), "{}", moved.text);
    // No reading arrives meanwhile: the worker finds the move by itself.
    settled(&world).await?;
    let report = ensure_holds(&world, &[]).await?;
    let totals = &report["totals"];
    ensure!(totals["rewound"] == 12 && totals["merged"] == 12, "{totals:#}");
    finish(world, [gateway, worker]).await
}
