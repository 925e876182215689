//! The file of a measurement: what it was done on, the figures with their targets, and every round.

use std::fmt::Write;

use anyhow::Context;

use super::run::Run;
use super::workload::{DEVICES, Workload};
use super::{PARTITIONS, Settings};
use crate::bench::table::{Table, machine};
use crate::stack::root;
use crate::world::World;

/// Figures by name, one of each a round.
#[derive(Debug, Default)]
pub(super) struct Series(Vec<Figures>);

#[derive(Debug)]
struct Figures {
    name: String,
    unit: &'static str,
    rounds: Vec<f64>,
}

/// What is kept of a run of the worker beside its rate, with its unit.
pub(super) const USAGE: [(&str, &str); 4] = [
    ("CPU per 100,000", " s"),
    ("database's CPU per 100,000", " s"),
    ("Redis' CPU per 100,000", " s"),
    ("RSS", " MiB"),
];

impl Series {
    /// Adds a round's rate.
    pub(super) fn add(&mut self, name: &str, rate: f64) {
        self.push(name.to_owned(), "/s", rate);
    }

    /// Adds a round's run of the worker.
    pub(super) fn add_run(&mut self, name: &str, run: &Run) {
        self.add(name, run.rate);
        let usage = [run.cpu, run.server_cpu, run.redis_cpu, run.resident];
        for ((what, unit), figure) in USAGE.iter().zip(usage) {
            self.push(format!("{name}, {what}"), unit, figure);
        }
    }

    fn push(&mut self, name: String, unit: &'static str, figure: f64) {
        match self.0.iter_mut().find(|known| known.name == name) {
            Some(known) => known.rounds.push(figure),
            None => self.0.push(Figures { name, unit, rounds: vec![figure] }),
        }
    }

    /// A name's figures, round by round.
    pub(super) fn of(&self, name: &str) -> Vec<f64> {
        let found = self.0.iter().find(|known| known.name == name);
        found.map(|known| known.rounds.clone()).unwrap_or_default()
    }

    /// One name's figures over another's of the same round.
    pub(super) fn ratios(&self, ours: &str, theirs: &str) -> Vec<f64> {
        self.of(ours).iter().zip(self.of(theirs)).map(|(ours, theirs)| ours / theirs).collect()
    }

    /// The rates of the last round.
    pub(super) fn last(&self) -> String {
        let rates = self.0.iter().filter(|known| known.unit == "/s");
        let last = rates.filter_map(|Figures { name, rounds, .. }| {
            Some(format!("{name} {:.0}/s", rounds.last()?))
        });
        last.collect::<Vec<_>>().join(", ")
    }
}

/// What the file will say.
#[derive(Debug)]
pub(super) struct Report {
    /// What the database says of itself.
    pub(super) version: String,
    settings: String,
    soak_only: bool,
    notes: Vec<String>,
    rounds: Vec<(Workload, Series)>,
}

impl Report {
    /// An empty report; asks the database who it is.
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
        let maria = self.version.contains("MariaDB");
        let database = if maria { "mariadb" } else { "mysql" };
        let date = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
        let suffix = if self.soak_only { "-soak" } else { "" };
        let folder = root().join("tests/bench/results");
        std::fs::create_dir_all(&folder).context("folder of results")?;
        let name = format!("{database}-{date}{suffix}.md");
        std::fs::write(folder.join(&name), self.text(database, &date, table)).context("results")?;
        println!("kept as tests/bench/results/{name}");
        Ok(())
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
            let _ = write!(text, "\n\n## {workload}\n\n| round by round |");
            let count = series.0.first().map_or(0, |known| known.rounds.len());
            (1..=count).for_each(|round| text.push_str(&format!(" {round} |")));
            text.push_str("\n|---|");
            text.push_str(&"---|".repeat(count));
            for Figures { name, rounds, .. } in &series.0 {
                let _ = write!(text, "\n| {name} |");
                for figure in rounds {
                    let digits = if *figure < 100.0 { 2 } else { 0 };
                    let _ = write!(text, " {figure:.digits$} |");
                }
            }
        }
        text + "\n"
    }
}
