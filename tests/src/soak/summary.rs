//! The summary of a soak run: its faults, its figures and its account. It ends in CLEAN or in the
//! problems.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use anyhow::Context;
use tokio::process::Command;

use super::recovery::Recovery;
use crate::accounting::history::Answered;
use crate::accounting::verdict::Verdict;
use crate::bench::{database, machine, today};
use crate::fleet::Report;
use crate::stack::root;

/// The faults of one kind and the recoveries from them.
#[derive(Debug, Default)]
struct Struck {
    times: u32,
    /// The longest recovery.
    worst: Duration,
}

/// What has happened to the pipeline so far.
#[derive(Debug, Default)]
pub(super) struct Summary {
    faults: BTreeMap<String, Struck>,
    notes: Vec<String>,
    problems: Vec<String>,
}

impl Summary {
    /// Adds a fault, how it went, and the recovery from it.
    pub(super) fn add(&mut self, fault: String, struck: anyhow::Result<()>, recovery: Recovery) {
        let of_kind = self.faults.entry(fault.clone()).or_default();
        of_kind.times += 1;
        of_kind.worst = of_kind.worst.max(recovery.took.unwrap_or_default());
        if let Some(took) = recovery.took {
            println!("         recovered {:.0} s later", took.as_secs_f64());
        }
        let failed = struck.err().map(|error| format!("{error:#}"));
        self.note(&fault, failed, recovery);
    }

    /// Adds what was seen before the first fault.
    pub(super) fn add_calm(&mut self, recovery: Recovery) {
        self.note("before the first fault", None, recovery);
    }

    /// Notes that no time was left for this many faults of the schedule.
    pub(super) fn skip(&mut self, faults: usize) {
        self.notes.push(format!("no time was left for {faults} faults of the schedule"));
    }

    fn note(&mut self, when: &str, failed: Option<String>, recovery: Recovery) {
        self.notes.extend(recovery.replaced.iter().map(|text| format!("{when}: {text}")));
        let problems = failed.into_iter().chain(recovery.problems);
        let problems = problems.map(|problem| format!("{when}: {problem}"));
        self.problems.extend(problems.inspect(|problem| println!("  PROBLEM {problem}")));
    }

    /// Returns the summary as text, and whether the run is clean. `head` describes the run.
    pub(super) fn text(&self, head: &str, report: &Report, verdict: &Verdict) -> (String, bool) {
        let mut text = format!("{head}\n\n{report}\n");
        let acknowledged = report.history.count(Answered::Acknowledged);
        let rate = acknowledged as f64 / report.elapsed.as_secs_f64().max(1.0);
        let _ = writeln!(text, "reached       {acknowledged} readings, {rate:.0} a second\n");
        let _ = writeln!(text, "{:<20} {:>5}  worst recovery", "fault", "times");
        for (fault, Struck { times, worst }) in &self.faults {
            let _ = writeln!(text, "{fault:<20} {times:>5}  {:.0} s", worst.as_secs_f64());
        }
        text.push('\n');
        for note in &self.notes {
            let _ = writeln!(text, "NOTE  {note}");
        }
        for fact in &verdict.facts {
            let _ = writeln!(text, "PASS  {fact}");
        }
        let problems = || self.problems.iter().chain(&verdict.problems);
        for problem in problems() {
            let _ = writeln!(text, "FAIL  {problem}");
        }
        let count = problems().count();
        let _ = match count {
            0 => writeln!(text, "CLEAN"),
            _ => writeln!(text, "{count} PROBLEMS"),
        };
        (text, count == 0)
    }
}

/// Returns the lines that describe the surroundings of a run: commit, machine and database.
pub(super) async fn surroundings(version: &str) -> String {
    let mut describe = Command::new("git");
    describe.args(["describe", "--always", "--dirty"]).current_dir(root());
    let commit = match describe.output().await {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    };
    format!("commit {commit}, {} {version}\n{}", database(version), machine())
}

/// Writes the summary of a run to a file.
pub(super) fn save(version: &str, seed: u64, text: &str) -> anyhow::Result<()> {
    let folder = root().join("tests/soak/results");
    std::fs::create_dir_all(&folder).context("folder of results")?;
    let name = format!("{}-{}-seed{seed}.txt", today(), database(version));
    std::fs::write(folder.join(&name), text).context("results")?;
    println!("kept as tests/soak/results/{name}");
    Ok(())
}
