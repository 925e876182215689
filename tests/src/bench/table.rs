//! The printed result.

use std::fmt;

/// A figure and its target.
#[derive(Debug)]
struct Line {
    name: String,
    figure: String,
    target: String,
    met: bool,
}

impl Line {
    const fn mark(&self) -> &'static str {
        match (self.target.is_empty(), self.met) {
            (true, _) => "",
            (false, true) => "ok",
            (false, false) => "MISSED",
        }
    }
}

/// Figures beside their targets.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<Line>);

impl Table {
    /// Adds a figure that must be at least `target`.
    pub(super) fn at_least(&mut self, name: &str, figure: f64, target: f64, unit: &str) {
        self.line(name, figure, format!("≥ {target}{unit}"), figure >= target, unit);
    }

    /// Adds a figure that must be at most `target`.
    pub(super) fn at_most(&mut self, name: &str, figure: f64, target: f64, unit: &str) {
        self.line(name, figure, format!("≤ {target}{unit}"), figure <= target, unit);
    }

    /// Adds a figure without a target.
    pub(super) fn fact(&mut self, name: &str, figure: f64, unit: &str) {
        self.line(name, figure, String::new(), true, unit);
    }

    /// Returns the table as Markdown.
    pub(super) fn markdown(&self) -> String {
        let mut text = "| figure | measured | target | |\n|---|---|---|---|\n".to_owned();
        for line in &self.0 {
            let Line { name, figure, target, .. } = line;
            text.push_str(&format!("| {name} | {figure} | {target} | {} |\n", line.mark()));
        }
        text
    }

    fn line(&mut self, name: &str, figure: f64, target: String, met: bool, unit: &str) {
        let figure = if figure >= 100.0 {
            format!("{figure:.0}{unit}")
        } else {
            format!("{figure:.3}{unit}")
        };
        println!("  {name}: {figure}");
        self.0.push(Line { name: name.to_owned(), figure, target, met });
    }

    /// Whether every target is met.
    pub(super) fn met(&self) -> bool {
        self.0.iter().all(|line| line.met)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<52} {:>16} {:>14}", "figure", "measured", "target")?;
        for line in &self.0 {
            let Line { name, figure, target, .. } = line;
            writeln!(f, "{name:<52} {figure:>16} {target:>14} {}", line.mark())?;
        }
        Ok(())
    }
}

/// Returns the middle of several figures, or the mean of the two middle ones.
pub(super) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
    f64::midpoint(at(figures.len().saturating_sub(1) / 2), at(figures.len() / 2))
}

/// Returns the figure below which this share of all figures lies. The figures are in ascending
/// order.
pub(super) fn quantile(figures: &[f64], share: f64) -> f64 {
    figures.get((figures.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN)
}

/// Returns a description of the machine.
pub(crate) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |model| model.trim_start_matches([' ', '\t', ':']));
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let memory = read("/proc/meminfo");
    let memory = memory.lines().next().unwrap_or_default().trim_start_matches("MemTotal:").trim();
    format!("machine: {cores} cores of {model}, {memory} of memory, shared by everything measured")
}
