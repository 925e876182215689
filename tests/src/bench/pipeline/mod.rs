//! The whole pipeline at a rate, then a worker with a backlog: the plan's figures, each from where it is
//! true.

mod backlog;
mod run;

use std::time::Duration;

use super::series::{self, Series};
use super::table::{Table, machine, median};
use crate::stack::world::World;
use run::run;

/// Fewest devices that the readings are of; a device measures once a second at most.
const DEVICES_MIN: u32 = 1000;

/// Partitions of the topic, as `worker migrate` makes them.
const PARTITIONS: u32 = 12;

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Settings {
    /// Readings per second; each is a body of its own, but for what full caches send again.
    #[arg(long, default_value_t = 2200.0)]
    rate: f64,
    /// Length of a run, after its warm-up.
    #[arg(long, default_value = "60s", value_parser = crate::fleet::duration)]
    duration: Duration,
    /// Time at the beginning of a run that does not count.
    #[arg(long, default_value = "30s", value_parser = crate::fleet::duration)]
    warm_up: Duration,
    /// Runs; each must meet every target.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Keep the figures under tests/bench/results, with this word in the file's name.
    #[arg(long)]
    save: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let (duration, warm_up) = (Duration::from_secs(60), Duration::from_secs(30));
        Self { rate: 2200.0, duration, warm_up, runs: 1, save: None }
    }
}

impl Settings {
    fn devices(&self) -> u32 {
        DEVICES_MIN.max(self.rate.ceil() as u32)
    }
}

/// A figure of the plan, or of what it took.
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

/// Runs as often as asked, and judges the worst run.
pub(super) async fn measure(settings: &Settings, table: &mut Table) -> anyhow::Result<()> {
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

/// What is judged, by the plan; and what is only stated.
fn aims(rate: f64) -> Vec<Aim> {
    let aim = |name, unit, target| Aim { name, unit, target };
    vec![
        aim("requests/s", "/s", Target::AtLeast(1400.0_f64.min(rate * 0.7))),
        aim("records/s", "/s", Target::AtLeast(2000.0_f64.min(rate) * 0.95)),
        aim("P95 from sending to the visible row", " s", Target::AtMost(3.0)),
        aim("P99 from sending to the visible row", " s", Target::AtMost(3.0)),
        aim("P95 of the answer", " s", Target::AtMost(1.0)),
        aim("P95 of the oldest reading's wait", " s", Target::AtMost(1.0)),
        aim("answers 200", " %", Target::AtLeast(99.9)),
        aim("duplicates beyond what the fleet re-sent", " %", Target::AtMost(5.0)),
        aim("readings unaccounted for", "", Target::AtMost(0.0)),
        aim("probes", "", Target::Fact),
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
