//! Measures the whole pipeline as often as set, compares the worst run with the plan, then measures
//! a worker with a backlog. One run belongs to [`super::run`], the backlog to [`super::backlog`].

use super::backlog;
use super::run::{self, run};
use super::settings::Settings;
use crate::bench::series::{self, Series};
use crate::bench::table::{Table, machine, median};
use crate::stack::world::World;

/// Longest time from the upload of a breach to WeChat for 95 of 100, in seconds. The plan has no such
/// target.
const NOTIFIED_P95_MAX: f64 = 0.3;

/// A figure of the plan, or of the use of the machine.
struct Aim {
    name: &'static str,
    unit: &'static str,
    target: Target,
}

enum Target {
    AtLeast(f64),
    AtMost(f64),
    Fact,
}

/// Runs as often as set, and compares the worst run with the targets.
pub(crate) async fn measure(settings: &Settings, table: &mut Table) -> anyhow::Result<()> {
    let Settings { rate, duration, warm_up, .. } = settings;
    println!(
        "pipeline: {} devices, {rate} readings/s for {duration:?} after {warm_up:?} of warm-up",
        settings.devices()
    );
    let mut series = Series::default();
    for number in 1..=settings.runs {
        println!("run {number}");
        run(settings, &mut series).await?;
    }
    for Aim { name, unit, target } in aims(*rate) {
        let figures = series.of(name);
        let worst = |pick: fn(f64, f64) -> f64| figures.iter().copied().reduce(pick);
        let name = format!("pipeline, {name}");
        match target {
            Target::AtLeast(least) => {
                table.at_least(&name, worst(f64::min).unwrap_or(f64::NAN), least, unit);
            }
            Target::AtMost(most) => {
                table.at_most(&name, worst(f64::max).unwrap_or(f64::NAN), most, unit);
            }
            Target::Fact => table.fact(&name, median(figures), unit),
        }
    }
    backlog::measure(table).await?;
    match &settings.save {
        Some(word) => save(word, settings, &series, table).await,
        None => Ok(()),
    }
}

/// Returns the figures with a target, and the figures without one.
fn aims(rate: f64) -> Vec<Aim> {
    let aim = |name, unit, target| Aim { name, unit, target };
    vec![
        aim("requests/s", "/s", Target::AtLeast(1400.0_f64.min(rate * 0.7))),
        aim("records/s", "/s", Target::AtLeast(2000.0_f64.min(rate) * 0.95)),
        aim("P95 from sending to the visible row", " s", Target::AtMost(3.0)),
        aim("P99 from sending to the visible row", " s", Target::AtMost(3.0)),
        aim("P95 from a breach to WeChat", " s", Target::AtMost(NOTIFIED_P95_MAX)),
        aim("P95 of the answer", " s", Target::AtMost(1.0)),
        aim("P95 of the oldest reading's wait", " s", Target::AtMost(1.0)),
        aim("answers 200", " %", Target::AtLeast(99.9)),
        aim("duplicates beyond what the fleet re-sent", " %", Target::AtMost(5.0)),
        aim("readings unaccounted for", "", Target::AtMost(0.0)),
        aim("probes", "", Target::Fact),
        aim("breaches", "", Target::Fact),
        aim("median from a breach to WeChat", " s", Target::Fact),
        aim("batches/s", "/s", Target::Fact),
        aim("the alerter's lag at the end", " s", Target::Fact),
        aim(run::ALL, " %", Target::Fact),
    ]
}

async fn save(
    word: &str,
    settings: &Settings,
    series: &Series,
    table: &Table,
) -> anyhow::Result<()> {
    let world = World::shared("bench").await?;
    let version = world.database.version().await?;
    world.finish().await?;
    let (database, date) = (series::database(&version), series::today());
    let Settings { rate, duration, warm_up, runs, .. } = settings;
    let text = format!(
        "# The whole pipeline on {database}, {date}: {word}\n\n{}\n\nserver: {version}\n\n{} devices, \
         {rate} readings/s for {duration:?} after {warm_up:?} that do not count, {runs} runs. The table \
         has the worst run where there is a target, else the median. Processor time is in percent of \
         one core.\n\n{}\n{}\n",
        machine(),
        settings.devices(),
        table.markdown(),
        series.markdown()
    );
    series::keep(&format!("pipeline-{database}-{date}-{word}.md"), &text)
}
