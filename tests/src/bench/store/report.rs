//! The file of a measurement: the machine, the figures with their targets, and every round.

use std::fmt::Write;

use super::settings::{PARTITIONS, Settings};
use crate::bench::series::{self, Series};
use crate::bench::table::{Table, machine};
use crate::bench::worker_run::Run;
use crate::bench::workload::{DEVICES, Workload};
use crate::stack::world::World;

/// Figures of a worker's run beside its rate, with their units.
pub(super) const USAGE: [(&str, &str); 4] = [
    ("CPU per 100,000", " s"),
    ("database's CPU per 100,000", " s"),
    ("Redis' CPU per 100,000", " s"),
    ("RSS", " MiB"),
];

/// Adds a round's run of the worker.
pub(super) fn add_run(series: &mut Series, name: &str, run: &Run) {
    series.add(name, run.rate);
    let usage = [run.cpu, run.server_cpu, run.redis_cpu, run.resident];
    for ((what, unit), figure) in USAGE.iter().zip(usage) {
        series.push(format!("{name}, {what}"), unit, figure);
    }
}

/// The contents of the file.
#[derive(Debug)]
pub(super) struct Report {
    /// The database's version.
    pub(super) version: String,
    settings: String,
    soak_only: bool,
    notes: Vec<String>,
    rounds: Vec<(Workload, Series)>,
}

impl Report {
    /// Creates an empty report and queries the database's version.
    pub(super) async fn new(settings: &Settings) -> anyhow::Result<Self> {
        let world = World::shared("bench").await?;
        let version = world.database.version().await?;
        world.finish().await?;
        let Settings { readings, rounds, .. } = settings;
        Ok(Self {
            version,
            settings: format!(
                "{readings} readings of {DEVICES} devices in {PARTITIONS} partitions, {rounds} rounds, medians"
            ),
            soak_only: *rounds == 0,
            notes: Vec::new(),
            rounds: Vec::new(),
        })
    }

    /// Adds a line.
    pub(super) fn note(&mut self, note: String) {
        println!("  {note}");
        self.notes.push(note);
    }

    /// Adds a workload's rounds.
    pub(super) fn add(&mut self, workload: Workload, series: Series) {
        self.rounds.push((workload, series));
    }

    /// Writes the file.
    pub(super) fn save(&self, table: &Table) -> anyhow::Result<()> {
        let (database, date) = (series::database(&self.version), series::today());
        let suffix = if self.soak_only { "-soak" } else { "" };
        series::keep(&format!("{database}-{date}{suffix}.md"), &self.text(database, &date, table))
    }

    fn text(&self, database: &str, date: &str, table: &Table) -> String {
        let mut text = format!(
            "# Storing into {database}, {date}\n\n{}\n\nserver: {}\n\n{}\n\n{}",
            machine(),
            self.version,
            self.settings,
            table.markdown()
        );
        for note in &self.notes {
            let _ = write!(text, "\n- {note}");
        }
        for (workload, series) in &self.rounds {
            let _ = write!(text, "\n\n## {workload}\n\n{}", series.markdown());
        }
        text + "\n"
    }
}
