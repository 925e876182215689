//! Measures a worker with a backlog, in which every batch is as large as it likes: from which rate
//! of records the plan's rate of batches would follow.

use super::settings::PARTITIONS;
use crate::bench::fill_topic::filled;
use crate::bench::table::{Table, median};
use crate::bench::worker_run::run;
use crate::bench::workload::Workload;
use crate::stack::world::World;

/// The plan's target for batches. At the plan's own rate of records it would mean batches of 40.
const BATCHES_MIN: f64 = 50.0;

/// Readings of the backlog.
const READINGS: usize = 600_000;

/// Number of runs, each from the start.
const ROUNDS: usize = 3;

/// Measures without a target: the plan's rate of records is far below.
pub(super) async fn measure(table: &mut Table) -> anyhow::Result<()> {
    println!("backlog: {READINGS} readings of vitals, Redis on");
    let world = World::shared("bench").await?.with_partitions(PARTITIONS);
    filled(&world, Workload::VitalsTurns, READINGS).await?;
    let (mut rates, mut batches) = (vec![], vec![]);
    for round in 1..=ROUNDS {
        let run = run(&world, READINGS, true).await?;
        println!("  round {round}: {:.0} records/s, {:.1} batches/s", run.rate, run.batches);
        rates.push(run.rate);
        batches.push(run.batches);
    }
    world.finish().await?;
    let (rate, batches) = (median(rates), median(batches));
    table.fact("backlog, records/s", rate, "/s");
    table.fact("backlog, batches/s", batches, "/s");
    let records = BATCHES_MIN * rate / batches;
    table.fact(&format!("backlog, records/s at {BATCHES_MIN} batches/s"), records, "/s");
    Ok(())
}
