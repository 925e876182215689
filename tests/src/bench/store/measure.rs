//! Measures the worker's store in turn with the ceilings of the database and with the plan's
//! statement for every row, on one topic for each workload. Each of the three has a file of its
//! own.

use super::ceiling::Ceiling;
use super::refused::run_refused;
use super::report::{self, Report, add_run};
use super::settings::{PARTITIONS, Settings};
use super::{row_by_row, steady_load};
use crate::bench::fill_topic::filled;
use crate::bench::series::Series;
use crate::bench::table::{Table, median};
use crate::bench::worker_run::run;
use crate::bench::workload::{self, Workload};
use crate::stack::world::World;

/// The least share of the ceilings.
const VITALS_MIN: f64 = 0.8;

/// The least share if every reading carries documents.
const WATCH_MIN: f64 = 0.6;

/// The least multiple of the old method's rate.
const OLD_MIN: f64 = 20.0;

/// The least share of the clean rate that remains with rejected values.
const REFUSED_MIN: f64 = 0.9;

/// Measures all workloads, then half load and flood.
pub(crate) async fn measure(settings: &Settings, table: &mut Table) -> anyhow::Result<()> {
    let mut report = Report::new(settings).await?;
    let mut rate = None;
    for workload in settings.workloads().iter().filter(|_| settings.rounds > 0) {
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
        // The first of a pair changes by round, because the machine also drifts within a round.
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
            let run = run_refused(&world, samples.len(), refused).await?;
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
