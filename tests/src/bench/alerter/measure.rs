//! Measures the alerter, from Kafka to its decisions in the database, against only reading the
//! topic, for each number of devices. The time from a breach to WeChat belongs to
//! [`super::latency`], the memory to [`super::memory`].

use super::run::{self, run};
use super::workload::{Feed, PARTITIONS, add_rules};
use super::{ceiling, latency, memory};
use crate::bench::fill_topic::Filler;
use crate::bench::series::{self, Series};
use crate::bench::table::{Table, machine, median};
use crate::bench::workload::Record;
use crate::fakes::wechat::FakeWechat;
use crate::stack::world::World;

/// The least share of the ceiling.
const RATIO_MIN: f64 = 0.5;

/// Numbers of devices that are measured if none is named.
const DEVICES: [usize; 2] = [1_000, 100_000];

/// The settings of `bench alerter`.
#[derive(Debug, clap::Args)]
pub(crate) struct Settings {
    /// Readings of one run.
    #[arg(long, default_value_t = 2_400_000)]
    readings: usize,
    /// Rounds, in which ceiling and alerter take turns; 0: no rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Number of devices of the readings, may be repeated; 1,000 and 100,000 if none is named.
    #[arg(long)]
    devices: Vec<usize>,
    /// Do not measure the time from a breach to WeChat.
    #[arg(long)]
    no_latency: bool,
    /// Measure the memory of devices and rules as well.
    #[arg(long)]
    memory: bool,
    /// Write the figures to a file under tests/bench/results.
    #[arg(long)]
    save: bool,
}

/// Measures rounds for each number of devices, then the latency to WeChat and the memory.
pub(crate) async fn measure(settings: &Settings, table: &mut Table) -> anyhow::Result<()> {
    let devices = if settings.devices.is_empty() { &DEVICES[..] } else { &settings.devices };
    let mut measured = Vec::new();
    for devices in devices.iter().filter(|_| settings.rounds > 0) {
        let series = rounds(*devices, settings).await?;
        judge(*devices, &series, table);
        measured.push((*devices, series));
    }
    if !settings.no_latency {
        latency::measure(table).await?;
    }
    if settings.memory {
        memory::measure(table).await?;
    }
    if settings.save {
        save(settings, &measured, table).await?;
    }
    Ok(())
}

async fn rounds(devices: usize, settings: &Settings) -> anyhow::Result<Series> {
    let readings = settings.readings;
    println!("alerter: {readings} readings of {devices} devices, fifty rules, 1 % in breach");
    let world = World::shared("bench").await?.with_partitions(PARTITIONS);
    world.migrate().await?;
    add_rules(&world).await?;
    let filler = Filler::new(&world)?;
    for record in Feed::new(&world, devices, readings).take(readings) {
        let Record { device, partition, value } = record;
        filler.put(&device, partition, &value)?;
    }
    filler.flush()?;
    let wechat = FakeWechat::start().await?;
    // The broker compiles its code while it runs: the first run gets less of the machine.
    let warm_up = ceiling::rate(&world, readings).await?;
    println!("  warm-up, not counted: ceiling {warm_up:.0}/s");
    let mut series = Series::default();
    for round in 0..settings.rounds {
        // The first of a round changes by round, because the machine also drifts within a round.
        let alerter_first = round % 2 == 1;
        for alerter in [alerter_first, !alerter_first] {
            if alerter {
                add_run(&mut series, &run(&world, &wechat, readings).await?);
            } else {
                series.add("ceiling", ceiling::rate(&world, readings).await?);
            }
        }
        println!("  round {}: {}", round + 1, series.last());
    }
    world.finish().await?;
    Ok(series)
}

/// Figures of a run beside its rate, with their units.
const USAGE: [(&str, &str); 4] = [
    ("CPU per 100,000", " s"),
    ("database's CPU per 100,000", " s"),
    ("RSS", " MiB"),
    ("episodes", ""),
];

fn add_run(series: &mut Series, run: &run::Run) {
    series.add("alerter", run.usage.rate());
    let usage = [run.usage.cpu, run.usage.server_cpu, run.resident, run.opened];
    for ((what, unit), figure) in USAGE.iter().zip(usage) {
        series.push(format!("alerter, {what}"), unit, figure);
    }
}

fn judge(devices: usize, series: &Series, table: &mut Table) {
    let name = |what: &str| format!("{devices} devices: {what}");
    let ratio = median(series.ratios("alerter", "ceiling"));
    table.at_least(&name("alerter / ceiling"), ratio, RATIO_MIN, "");
    for rate in ["ceiling", "alerter"] {
        table.fact(&name(rate), median(series.of(rate)), "/s");
    }
    for (what, unit) in USAGE {
        let what = format!("alerter, {what}");
        table.fact(&name(&what), median(series.of(&what)), unit);
    }
}

async fn save(
    settings: &Settings,
    measured: &[(usize, Series)],
    table: &Table,
) -> anyhow::Result<()> {
    let world = World::shared("bench").await?;
    let version = world.database.version().await?;
    world.finish().await?;
    let (database, date) = (series::database(&version), series::today());
    let Settings { readings, rounds, .. } = settings;
    let mut text = format!(
        "# Evaluating into {database}, {date}\n\n{}\n\nserver: {version}\n\n{readings} readings in \
         {PARTITIONS} partitions, fifty rules, 1 % of the readings in breach and notified in the \
         log; {rounds} rounds, medians\n\n{}",
        machine(),
        table.markdown()
    );
    for (devices, series) in measured {
        text.push_str(&format!("\n## {devices} devices\n\n{}\n", series.markdown()));
    }
    series::keep(&format!("alerter-{database}-{date}.md"), &text)
}
