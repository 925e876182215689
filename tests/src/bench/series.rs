//! Figures by name, measured round by round.

use std::fmt::Write;

use anyhow::Context;

use crate::stack::root;

/// Figures by name, one of each per round.
#[derive(Debug, Default)]
pub(super) struct Series(Vec<Figures>);

#[derive(Debug)]
struct Figures {
    name: String,
    unit: &'static str,
    rounds: Vec<f64>,
}

impl Series {
    /// Adds a round's rate.
    pub(super) fn add(&mut self, name: &str, rate: f64) {
        self.push(name.to_owned(), "/s", rate);
    }

    /// Adds a round's figure.
    pub(super) fn push(&mut self, name: String, unit: &'static str, figure: f64) {
        match self.0.iter_mut().find(|known| known.name == name) {
            Some(known) => known.rounds.push(figure),
            None => self.0.push(Figures { name, unit, rounds: vec![figure] }),
        }
    }

    /// Returns a name's figures, round by round.
    pub(super) fn of(&self, name: &str) -> Vec<f64> {
        let found = self.0.iter().find(|known| known.name == name);
        found.map(|known| known.rounds.clone()).unwrap_or_default()
    }

    /// Returns one name's figures divided by another's of the same round.
    pub(super) fn ratios(&self, ours: &str, theirs: &str) -> Vec<f64> {
        self.of(ours).iter().zip(self.of(theirs)).map(|(ours, theirs)| ours / theirs).collect()
    }

    /// Returns the rates of the last round as text.
    pub(super) fn last(&self) -> String {
        let rates = self.0.iter().filter(|known| known.unit == "/s");
        let last = rates.filter_map(|Figures { name, rounds, .. }| {
            Some(format!("{name} {:.0}/s", rounds.last()?))
        });
        last.collect::<Vec<_>>().join(", ")
    }

    /// Returns all figures as Markdown.
    pub(super) fn markdown(&self) -> String {
        let count = self.0.first().map_or(0, |known| known.rounds.len());
        let mut text = "| round by round |".to_owned();
        (1..=count).for_each(|round| text.push_str(&format!(" {round} |")));
        text.push_str("\n|---|");
        text.push_str(&"---|".repeat(count));
        for Figures { name, rounds, .. } in &self.0 {
            let _ = write!(text, "\n| {name} |");
            for figure in rounds {
                let digits = if *figure < 100.0 { 2 } else { 0 };
                let _ = write!(text, " {figure:.digits$} |");
            }
        }
        text
    }
}

/// Returns the database's name in file names, from its version.
pub(crate) fn database(version: &str) -> &'static str {
    if version.contains("MariaDB") { "mariadb" } else { "mysql" }
}

/// Returns today's date in the form of file names.
pub(crate) fn today() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()
}

/// Writes the text of a measurement to a file of this name.
pub(super) fn keep(name: &str, text: &str) -> anyhow::Result<()> {
    let folder = root().join("tests/bench/results");
    std::fs::create_dir_all(&folder).context("folder of results")?;
    std::fs::write(folder.join(name), text).context("results")?;
    println!("kept as tests/bench/results/{name}");
    Ok(())
}
