//! Measures the cost of telemetry: gateway and worker without spans take turns with ones that send
//! the spans of one trace in a hundred.

use super::fill_topic::{Filler, cleared};
use super::gateway;
use super::series::Series;
use super::table::{Table, median};
use super::worker_run::run_with;
use super::workload::{Feed, Workload};
use crate::stack::launch::Launch;
use crate::stack::world::World;

/// The least share of the throughput without telemetry.
const RATIO_MIN: f64 = 0.95;

/// One trace in this many is sampled.
const RECORDED_EVERY: usize = 100;

/// Partitions of the topic.
const PARTITIONS: u32 = 6;

/// Measures with and without telemetry in turn.
pub(super) async fn measure(
    rounds: usize,
    readings: usize,
    table: &mut Table,
) -> anyhow::Result<()> {
    println!("telemetry: nothing sent, and one trace in {RECORDED_EVERY}");
    let world = World::shared("bench").await?.with_partitions(PARTITIONS);
    world.migrate().await?;
    let bodies = gateway::bodies(&world);
    let mut series = Series::default();
    for round in 0..rounds {
        for traced in [round % 2 == 0, round % 2 == 1] {
            let gateway = adapted(gateway::closed_loop(world.gateway()), traced).start().await?;
            let rate = gateway::run(gateway, &bodies).await?;
            series.add(name("gateway", traced), rate.requests);
        }
        println!("  round {}: {}", round + 1, series.last());
    }
    world.finish().await?;

    let world = World::shared("bench").await?.with_partitions(PARTITIONS);
    world.migrate().await?;
    fill(&world, readings)?;
    for round in 0..rounds {
        for traced in [round % 2 == 0, round % 2 == 1] {
            cleared(&world).await?;
            let worker = adapted(world.worker(), traced).spawn()?;
            let run = run_with(&world, worker, readings, true).await?;
            series.add(name("worker", traced), run.rate);
        }
        println!("  round {}: {}", round + 1, series.last());
    }
    world.finish().await?;
    for service in ["gateway", "worker"] {
        let ratio = median(series.ratios(name(service, true), name(service, false)));
        table.at_least(&format!("{service}, traced over untraced"), ratio, RATIO_MIN, "");
        table.fact(name(service, true), median(series.of(name(service, true))), "/s");
        table.fact(name(service, false), median(series.of(name(service, false))), "/s");
    }
    Ok(())
}

fn name(service: &str, traced: bool) -> &'static str {
    match (service, traced) {
        ("gateway", true) => "gateway, one trace in a hundred",
        ("gateway", false) => "gateway without telemetry",
        (_, true) => "worker, one trace in a hundred",
        (_, false) => "worker without telemetry",
    }
}

fn adapted(launch: Launch, traced: bool) -> Launch {
    if traced {
        launch.env("TRACE_SAMPLE_RATIO", "0.01")
    } else {
        launch.env("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    }
}

/// Fills the topic with readings as the gateway publishes them, one in a hundred of them sampled.
fn fill(world: &World, readings: usize) -> anyhow::Result<()> {
    let filler = Filler::new(world)?;
    for (number, sample) in
        Feed::new(world, Workload::VitalsTurns, readings).take(readings).enumerate()
    {
        let recorded = u8::from(number % RECORDED_EVERY == 0);
        let context = format!("00-{:032x}-{:016x}-{recorded:02x}", number + 1, number + 1);
        filler.send_under(&sample, &context)?;
    }
    filler.flush()
}
