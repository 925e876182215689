//! `alerter backtest`: evaluates other rules on the readings that the topic still holds, and
//! compares them with the active rules.
//!
//! Reads the topic by time, without a group. Writes and sends nothing. `trial` evaluates, and
//! `compare` finds the differences.

mod compare;
mod report;
mod trial;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, ensure};
use ljwx_reading::{wall_text_of, wire};
use ljwx_service::config::{EXIT_CONFIG, Problems, TimeArg, ZoneArgs};
use ljwx_service::kafka::KafkaArgs;
use ljwx_service::kafka::topic_reader::TopicReader;
use ljwx_service::telemetry::TelemetryArgs;
use ljwx_service::text::print_found;
use rdkafka::message::Message;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::rules::mysql;
use crate::rules::index::RuleSet;
use crate::rules::loading::snapshot::RulesSnapshot;
use crate::rules::loading::source::{self, RuleSource};
use crate::rules::validation::RuleStatus;
use report::{BacktestReport, NamedRules, print};
use trial::{BacktestRun, Selection};

/// Records between two progress lines.
const RECORDS_PER_PROGRESS_LINE: u64 = 100_000;

/// Settings of `alerter backtest`.
#[derive(Debug, Clone, clap::Args)]
pub struct BacktestArgs {
    /// The connection to Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// YAML file with the complete set of rules to try.
    #[arg(long, value_name = "FILE")]
    pub rules: PathBuf,
    /// YAML file with the rules to compare with; none: the active rules in the platform's table.
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// Time of receipt of the first readings, as `yyyy-MM-dd HH:mm:ss` in the devices' zone or RFC
    /// 3339. No earlier state of any device is known.
    #[arg(long, value_parser = TimeArg::parse)]
    pub from: TimeArg,
    /// Time of receipt before which the readings end; at the latest, the present end of the topic.
    #[arg(long, value_parser = TimeArg::parse)]
    pub to: TimeArg,
    /// The selected readings.
    #[command(flatten)]
    pub wanted: Selection,
    /// Print one JSON document instead of tables.
    #[arg(long)]
    pub json: bool,
    /// MySQL or MariaDB, as mysql://user:password@host:port/database; for the active rules.
    #[arg(long, env = "MYSQL_URL", hide_env_values = true)]
    pub mysql_url: Option<SecretString>,
    /// The devices' zone.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

impl BacktestArgs {
    /// Adds what is wrong with the settings to `problems`.
    pub fn validate(&self, problems: &mut Problems) {
        self.kafka.validate(problems);
        self.telemetry.validate(problems);
        let [from, to] = self.times();
        problems.require(from < to, || "--from must lie before --to".into());
        match &self.mysql_url {
            _ if self.against.is_some() => {}
            Some(url) => mysql(url).validate(problems),
            None => problems.add(
                "--mysql-url is missing: say where the rules in force are, or give a file with \
                 --against",
            ),
        }
    }

    fn times(&self) -> [i64; 2] {
        [self.from, self.to].map(|when| when.at_ms(&self.zone.zone))
    }
}

/// Runs a backtest and prints its report. Exits with 2 if a rule of a file is invalid.
pub async fn backtest(config: &BacktestArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let against = config.against.as_ref().map(|path| of_file("--against", path)).transpose();
    let (against, tried) = match (against, of_file("--rules", &config.rules)) {
        (Ok(against), Ok(tried)) => (against, tried),
        (against, tried) => {
            let problems = against.err().into_iter().chain(tried.err()).flatten();
            problems.for_each(|problem| eprintln!("error: {problem}"));
            return Ok(ExitCode::from(EXIT_CONFIG as u8));
        }
    };
    let against = match against {
        Some(against) => against,
        None => in_force(config).await?,
    };
    let sets = [Arc::clone(&against.set), Arc::clone(&tried.set)];
    let own = config.clone();
    let trial = tokio::task::spawn_blocking(move || go_through(&own, sets, &stop)).await??;
    let times = config.times().map(|at| wall_text_of(at, &config.zone.zone));
    let report = BacktestReport::new(times, [against, tried], trial);
    print_found(config.json, &report, &mut io::stdout().lock(), print)?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the rules of a file, or all of their problems. Without the invalid rules, a backtest
/// would not be representative of the set.
fn of_file(flag: &str, path: &Path) -> Result<NamedRules, Vec<String>> {
    let name = path.display().to_string();
    let checks =
        source::load_file(path).map_err(|error| vec![format!("{flag} {name}: {error:#}")])?;
    let mut problems = Vec::new();
    for check in &checks {
        if let RuleStatus::Invalid(found) = &check.checked {
            let rule = &check.name;
            problems
                .extend(found.iter().map(|problem| format!("{flag} {name}: {rule}: {problem}")));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(NamedRules { name, set: Arc::new(RulesSnapshot::new(checks, None).rules) })
}

/// Returns the active rules.
async fn in_force(config: &BacktestArgs) -> anyhow::Result<NamedRules> {
    let url = config.mysql_url.as_ref().context("--mysql-url is missing")?;
    let pool = mysql(url).connect(&config.zone.zone).context("--mysql-url")?;
    let source = RuleSource::Table(pool.clone());
    let snapshot = RulesSnapshot::read(&source, Some(source.store(pool))).await?;
    let refused = snapshot.refused.len();
    if refused > 0 {
        eprintln!(
            "{refused} rule(s) in force are refused as they are written: see `alerter rules list`"
        );
    }
    let name = "the rules in force in t_alert_rules".to_owned();
    Ok(NamedRules { name, set: Arc::new(snapshot.rules) })
}

/// Evaluates both sets on the topic's readings of the selected period. Blocks.
fn go_through(
    config: &BacktestArgs,
    sets: [Arc<RuleSet>; 2],
    stop: &CancellationToken,
) -> anyhow::Result<BacktestRun> {
    let topic = &config.kafka.readings_topic;
    let reader = TopicReader::new(&config.kafka, "alerter-backtest")?;
    let ends = reader.ends(topic)?.with_context(|| format!("there is no topic {topic}"))?;
    let [from, to] = config.times();
    let (from, to) = (reader.at_time(topic, &ends, from)?, reader.at_time(topic, &ends, to)?);
    let stretch = |(partition, start): (i32, i64)| {
        (partition, start..to.get(&partition).copied().unwrap_or(start))
    };
    let stretches: BTreeMap<i32, Range<i64>> = from.into_iter().map(stretch).collect();
    let all: i64 = stretches.values().map(|stretch| (stretch.end - stretch.start).max(0)).sum();
    eprintln!("{all} records to go through");
    let (partitions, wanted) = (ends.into_keys().collect(), config.wanted.clone());
    let mut trial = BacktestRun::new(sets, partitions, wanted, &config.zone.zone);
    reader.read(topic, &stretches, |message| {
        ensure!(!stop.is_cancelled(), "interrupted");
        match wire::decode(message.payload()) {
            Ok(reading) => trial.reading(message.partition(), &reading),
            Err(_) => trial.undecodable(),
        }
        let read = trial.records.read;
        if read.is_multiple_of(RECORDS_PER_PROGRESS_LINE) {
            eprintln!("{read} of {all} records");
        }
        Ok(())
    })?;
    Ok(trial)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_a_refused_rule_is_refused_with_every_reason() {
        let path = std::env::temp_dir().join(format!("backtest-{}.yaml", std::process::id()));
        let rules = "[{id: 1, physical_sign: stress, threshold_max: 70}, {id: 2}, {id: 2}]";
        std::fs::write(&path, rules).unwrap();
        let problems = of_file("--rules", &path).err().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(problems.len(), 3, "{problems:?}");
        let start = format!("--rules {}: rule 2: ", path.display());
        assert!(problems.iter().all(|problem| problem.starts_with(&start)), "{problems:?}");
        assert!(of_file("--rules", &path).is_err_and(|problems| problems.len() == 1), "no file");
    }
}
