//! Measures the worker against the bare UPSERT, for the plan's figures: vitals only, without Redis.
//! [`mod@super::measure`] measures the same at length.

use super::ceiling::Ceiling;
use crate::bench::fill_topic::filled;
use crate::bench::table::{Table, median};
use crate::bench::worker_run::run;
use crate::bench::workload::Workload;
use crate::stack::world::World;

/// The least share of the ceiling.
const RATIO_MIN: f64 = 0.5;

/// The plan's target for records.
const RECORDS_MIN: f64 = 2000.0;

/// Measures worker and ceiling in turn.
pub(crate) async fn measure(
    rounds: usize,
    readings: usize,
    table: &mut Table,
) -> anyhow::Result<()> {
    println!("worker: {readings} vitals-only readings, Redis off");
    let world = World::shared("bench").await?.with_partitions(12);
    let samples = filled(&world, Workload::VitalsTurns, readings).await?;
    let ceiling = Ceiling::new(&world, false).await?;
    let form = ceiling.best(&samples).await?;
    let (mut ratios, mut rates, mut batches, mut ceilings) = (vec![], vec![], vec![], vec![]);
    for round in 1..=rounds {
        let ceiling = ceiling.rate(&samples, form).await?;
        let run = run(&world, readings, false).await?;
        println!(
            "  round {round}: ceiling {ceiling:.0} rows/s, worker {:.0} rows/s, {:.0} batches/s",
            run.rate, run.batches
        );
        ratios.push(run.rate / ceiling);
        rates.push(run.rate);
        batches.push(run.batches);
        ceilings.push(ceiling);
    }
    world.finish().await?;
    table.at_least("worker, rows/s over the bare UPSERT", median(ratios), RATIO_MIN, "");
    table.at_least("worker, records/s at full load", median(rates), RECORDS_MIN, "/s");
    table.fact("worker's ceiling, rows/s", median(ceilings), "/s");
    table.fact("worker, batches/s at full load", median(batches), "/s");
    Ok(())
}
