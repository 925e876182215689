//! Runs the part of the benchmarks that the arguments name, and prints its table. Each part
//! measures by itself.

use clap::{Parser, Subcommand};

use super::table::{self, Table};
use super::{alerter, gateway, pipeline, scaling, store, takeover, telemetry};

/// Print the plan's figures beside their targets, and the ratios to the ceilings of the machine.
/// Start it through `deploy/stack run -- target/release/bench`.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// Part to measure; all parts if none is named.
    #[command(subcommand)]
    part: Option<Part>,
    /// Rounds of each ratio, in which ceiling and product take turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Readings of one round of the worker's ratio.
    #[arg(long, default_value_t = 300_000)]
    readings: usize,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Measure the whole pipeline at a rate.
    Pipeline(pipeline::Settings),
    /// Measure the gateway against a server that only publishes.
    Gateway,
    /// Measure the worker against the bare UPSERT.
    Worker,
    /// Measure the worker against several ceilings and the plan's old method, at length; not part
    /// of all.
    Store(store::Settings),
    /// Measure the alerter against only reading the topic, and its latency to WeChat; not part of
    /// all.
    Alerter(alerter::Settings),
    /// Measure the alerter at rare peaks: thousands of devices missing, a million assigned,
    /// notifications that are owed or wait; not part of all.
    Peaks(alerter::peaks::Settings),
    /// Kill replicas and measure how soon others store and alert in their place; not part of all.
    Takeover(takeover::Settings),
    /// Add and remove workers by lag, as Kubernetes would, under a load that rises to the machine's
    /// limit and falls; not part of all.
    Scaling(scaling::Settings),
    /// Measure gateway and worker with and without telemetry; not part of all.
    Telemetry,
    /// Run the server that only publishes: the gateway's ceiling.
    #[command(hide = true)]
    Bare,
}

/// Measures; `true` if every target is met.
pub async fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let Arguments { part, rounds, readings } = arguments;
    let mut table = Table::default();
    let table = &mut table;
    if !matches!(part, Some(Part::Bare)) {
        println!("{}", table::machine());
    }
    match part {
        Some(Part::Bare) => {
            gateway::ceiling::serve().await?;
            return Ok(true);
        }
        Some(Part::Pipeline(settings)) => pipeline::measure(&settings, table).await?,
        Some(Part::Gateway) => gateway::measure(rounds, table).await?,
        Some(Part::Worker) => store::worker::measure(rounds, readings, table).await?,
        Some(Part::Telemetry) => telemetry::measure(rounds, readings, table).await?,
        Some(Part::Store(settings)) => store::measure(&settings, table).await?,
        Some(Part::Takeover(settings)) => takeover::measure(&settings, table).await?,
        Some(Part::Scaling(settings)) => scaling::measure(&settings, table).await?,
        Some(Part::Alerter(settings)) => alerter::measure(&settings, table).await?,
        Some(Part::Peaks(settings)) => alerter::peaks::measure(&settings, table).await?,
        None => {
            gateway::measure(rounds, table).await?;
            store::worker::measure(rounds, readings, table).await?;
            pipeline::measure(&pipeline::Settings::default(), table).await?;
        }
    }
    println!("{table}");
    Ok(table.met())
}
