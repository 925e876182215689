//! The worker's store against what the database can take: ceilings, the plan's old way and the
//! worker in turn, on one topic for each workload.

mod ceiling;
mod fill_topic;
mod hashes;
mod report;
mod row_by_row;
mod rows;
mod run;
mod steady_load;
mod workload;
mod write_method;

use std::time::Duration;

use clap::ValueEnum;

use super::series::Series;
use super::table::{Table, median};
use crate::clients::kafka;
use crate::fleet::duration;
use crate::stack::world::World;

pub(super) use ceiling::Ceiling;
pub(super) use fill_topic::Filler;
use report::{Report, add_run};
pub(super) use run::{run, run_with};
use workload::Sample;
pub(super) use workload::{Feed, Workload};

/// Partitions of the topic.
const PARTITIONS: u32 = 6;

/// The least share of the ceilings.
const VITALS_MIN: f64 = 0.8;

/// The least share where every reading carries documents.
const WATCH_MIN: f64 = 0.6;

/// The least multiple of the old way.
const OLD_MIN: f64 = 20.0;

/// The least share of the clean speed that refused values leave.
const REFUSED_MIN: f64 = 0.9;

/// What to store.
#[derive(Debug, clap::Args)]
pub(super) struct Settings {
    /// Readings of one run.
    #[arg(long, default_value_t = 600_000)]
    readings: usize,
    /// Rounds; everything measured takes turns. 0: only what --soak asks for.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Workloads, may be repeated; all of them where none is named.
    #[arg(long = "workload", value_enum)]
    workloads: Vec<Workload>,
    /// Flood a worker for that long as well, and look at its memory.
    #[arg(long, value_parser = duration)]
    soak: Option<Duration>,
    /// Keep the figures as a file under tests/bench/results.
    #[arg(long)]
    save: bool,
}

/// Measures all workloads, then half load and flood.
pub(super) async fn measure(settings: &Settings, table: &mut Table) -> anyhow::Result<()> {
    let mut report = Report::new(settings).await?;
    let workloads = match &settings.workloads[..] {
        [] => Workload::value_variants(),
        some => some,
    };
    let mut rate = None;
    for workload in workloads.iter().filter(|_| settings.rounds > 0) {
        let series = rounds(*workload, settings, &mut report).await?;
        judge(*workload, &series, table);
        if *workload == Workload::VitalsTurns {
            rate = Some(median(series.of("worker + Redis")));
        }
        report.add(*workload, series);
    }
    if let Some(rate) = rate {
        steady_load::wait_at_half(rate, table).await?;
    }
    if let Some(length) = settings.soak {
        steady_load::soak(length, table).await?;
    }
    if settings.save {
        report.save(table)?;
    }
    Ok(())
}

async fn rounds(
    workload: Workload,
    settings: &Settings,
    report: &mut Report,
) -> anyhow::Result<Series> {
    println!("store: {workload}: {} readings on {}", settings.readings, report.version);
    let world = World::shared("bench").await?.with_partitions(PARTITIONS);
    let samples = filled(&world, workload, settings.readings).await?;
    let bare = Ceiling::new(&world, false).await?;
    let shown = Ceiling::new(&world, true).await?;
    let (form, form_shown) = (bare.best(&samples).await?, shown.best(&samples).await?);
    report.note(format!("{workload}: ceiling {form}; with raw hashes {form_shown}"));
    let refused = workload::refused(samples.len());
    let mut series = Series::default();
    for round in 0..settings.rounds {
        // Whoever comes first in a pair, since the machine drifts within a round as well.
        let worker_first = round % 2 == 1;
        for (redis, ceiling, form) in [(false, &bare, form), (true, &shown, form_shown)] {
            let names =
                if redis { ("ceiling + hashes", "worker + Redis") } else { ("ceiling", "worker") };
            for worker in [worker_first, !worker_first] {
                if worker {
                    let run = run(&world, samples.len(), redis).await?;
                    add_run(&mut series, names.1, &run);
                } else {
                    series.add(names.0, ceiling.rate(&samples, form).await?);
                }
            }
        }
        if !workload.watch() && refused > 0 {
            let run = run::run_refused(&world, samples.len(), refused).await?;
            add_run(&mut series, "worker, values refused", &run);
        }
        series.add("row by row", row_by_row::rate(&world, &samples).await?);
        println!("  round {}: {}", round + 1, series.last());
    }
    world.finish().await?;
    Ok(series)
}

fn judge(workload: Workload, series: &Series, table: &mut Table) {
    let least = if workload.watch() { WATCH_MIN } else { VITALS_MIN };
    let ratio = |ours, theirs| median(series.ratios(ours, theirs));
    let name = |what: &str| format!("{workload}: {what}");
    table.at_least(&name("worker / ceiling"), ratio("worker", "ceiling"), least, "");
    let shown = ratio("worker + Redis", "ceiling + hashes");
    if workload.watch() {
        table.fact(&name("worker + Redis / with hashes"), shown, "");
    } else {
        table.at_least(&name("worker + Redis / with hashes"), shown, least, "");
        let refused = ratio("worker, values refused", "worker");
        if refused.is_finite() {
            table.at_least(&name("values refused / clean"), refused, REFUSED_MIN, "");
        }
    }
    table.fact(&name("worker + Redis / ceiling"), ratio("worker + Redis", "ceiling"), "");
    table.at_least(&name("worker / row by row"), ratio("worker", "row by row"), OLD_MIN, "");
    let old_shown = ratio("worker + Redis", "row by row");
    table.fact(&name("worker + Redis / row by row"), old_shown, "");
    for name in ["ceiling", "ceiling + hashes", "row by row", "worker", "worker + Redis"] {
        table.fact(&format!("{workload}: {name}"), median(series.of(name)), "/s");
    }
    for worker in ["worker", "worker + Redis"] {
        for (what, unit) in report::USAGE {
            let name = format!("{worker}, {what}");
            table.fact(&format!("{workload}: {name}"), median(series.of(&name)), unit);
        }
    }
}

/// The readings of a world's topic that is filled with them.
pub(super) async fn filled(
    world: &World,
    workload: Workload,
    readings: usize,
) -> anyhow::Result<Vec<Sample>> {
    world.migrate().await?;
    let samples: Vec<Sample> = Feed::new(world, workload, readings).take(readings).collect();
    let filler = Filler::new(world)?;
    filler.send(&samples)?;
    filler.flush()?;
    let ends = kafka::watermarks(&world.stack.kafka_brokers, &world.readings_topic).await?;
    let sent: i64 = ends.iter().map(|end| end.high - end.low).sum();
    anyhow::ensure!(sent == readings as i64, "{sent} records in the topic, not {readings}");
    Ok(samples)
}

/// A world as before anything was stored; its topic stays as it is.
pub(super) async fn cleared(world: &World) -> anyhow::Result<()> {
    for table in ["t_user_health_data", "t_user_health_data_daily", "t_user_health_data_weekly"] {
        world.database.execute(&format!("TRUNCATE TABLE {table}")).await?;
    }
    // Without its row a partition starts with its first record again.
    world.database.execute("DELETE FROM ingest_progress").await?;
    world.cache.remove(&world.serial_prefix()).await
}
