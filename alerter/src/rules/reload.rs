//! Keeps the rules in force up to date: reads the source every few seconds and hands out a new
//! set where something changed.
//!
//! A rule that does not validate is refused alone, and its last good version stays in force; a
//! source that cannot be read leaves everything as it is.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use sqlx::MySqlPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::source_file::FileError;
use super::validate::{Check, Checked};
use super::{RuleSet, source_db, source_file};
use crate::metrics as names;
use crate::rule::Rule;

/// Where the rules are.
#[derive(Debug, Clone)]
pub enum Source {
    /// The platform's table.
    Table(MySqlPool),
    /// A file.
    File(PathBuf),
}

/// Why the source gave no rules at all.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The table cannot be read.
    #[error("cannot read t_alert_rules: {0}")]
    Table(#[from] sqlx::Error),
    /// The file is refused whole.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Source {
    /// Reads and checks all rules.
    pub async fn load(&self) -> Result<Vec<Check>, LoadError> {
        match self {
            Self::Table(pool) => Ok(source_db::load(pool).await?),
            Self::File(path) => Ok(source_file::load(path)?),
        }
    }
}

/// The last good version of each rule, and what was last said of the others.
#[derive(Debug, Default)]
struct Accepted {
    rules: HashMap<i64, Rule>,
    complaints: HashMap<String, Vec<String>>,
}

impl Accepted {
    /// Takes in what the source says now; the set that follows from it.
    fn take(&mut self, checks: Vec<Check>) -> RuleSet {
        let mut rules = HashMap::new();
        let mut complaints = HashMap::new();
        let (mut events, mut refused) = (0_u32, 0_u32);
        for (at, check) in checks.into_iter().enumerate() {
            let name = check.id.map_or_else(|| format!("at place {}", at + 1), |id| id.to_string());
            if !check.warnings.is_empty() {
                complaints.insert(name.clone(), check.warnings);
            }
            match check.checked {
                Checked::Valid(rule) => drop(rules.insert(rule.id, *rule)),
                Checked::Deleted => {}
                Checked::Event => events += 1,
                Checked::Refused(problems) => {
                    refused += 1;
                    let said = problems.iter().map(|one| format!("{}: {}", one.field, one.message));
                    complaints.entry(name).or_insert_with(Vec::new).extend(said);
                    if let Some(last_good) = check.id.and_then(|id| self.rules.remove(&id)) {
                        rules.insert(last_good.id, last_good);
                    }
                }
            }
        }
        for (rule, said) in &complaints {
            if self.complaints.get(rule) != Some(said) {
                warn!(rule.id = rule, problems = said.join("; "), "rule is not as it should be");
            }
        }
        gauge!(names::RULES, "state" => "valid").set(rules.len() as f64);
        gauge!(names::RULES, "state" => "refused").set(f64::from(refused));
        gauge!(names::RULES, "state" => "event").set(f64::from(events));
        self.complaints = complaints;
        self.rules = rules;
        RuleSet::new(self.rules.values().cloned())
    }
}

/// Starts the task; the receiver holds `None` until the rules were read once.
pub fn start(
    source: Source,
    every: Duration,
    stop: CancellationToken,
) -> watch::Receiver<Option<Arc<RuleSet>>> {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        let mut accepted = Accepted::default();
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            match source.load().await {
                Ok(checks) => {
                    let rules = Arc::new(accepted.take(checks));
                    sender.send_if_modified(|current| {
                        let changed = current.as_ref() != Some(&rules);
                        if changed {
                            info!(rules = rules.all().len(), "rules in force changed");
                            *current = Some(rules);
                        }
                        changed
                    });
                }
                Err(error) => {
                    counter!(names::RULE_LOAD_ERRORS).increment(1);
                    warn!(%error, "rules could not be read, those in force stay");
                }
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(threshold: &str) -> Vec<Check> {
        let text = format!(
            "- {{id: 1, physical_sign: stress, threshold_max: {threshold}}}\n\
             - {{id: 2, physical_sign: stress, threshold_max: 80}}\n"
        );
        source_file::parse(&text).unwrap()
    }

    #[test]
    fn a_broken_rule_keeps_its_last_good_version_and_costs_no_other() {
        let mut accepted = Accepted::default();
        let max =
            |rules: &RuleSet, id| rules.in_force(7, id).and_then(|rule| rule.thresholds().max);

        let first = accepted.take(file("oops"));
        assert_eq!((max(&first, 1), max(&first, 2)), (None, Some(80.0)));

        let good = accepted.take(file("70"));
        assert_eq!((max(&good, 1), max(&good, 2)), (Some(70.0), Some(80.0)));

        let broken = accepted.take(file("oops"));
        assert_eq!(broken, good);
        assert_eq!(accepted.take(file("oops")), good, "and it stays so");

        assert!(accepted.take(Vec::new()).all().is_empty(), "a rule that is gone is gone");
    }
}
