//! `worker audit`: is everything accounted for? The ledger's equation, beside Kafka's watermarks,
//! the dead-letter and rejects topics, and the rows themselves.
//!
//! `rows` and `letters` ask, `findings` judges without asking, `print` shows it.

mod args;
mod checks;
mod dead_letters;
mod finding;
mod print;
mod reading_search;
mod report;
mod snapshot;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use anyhow::Context;
use ljwx_ledger::ledger::Accepted;
use ljwx_ledger::mysql::MySqlPool;
use ljwx_service::kafka::REQUEST_TIMEOUT;
use ljwx_service::kafka::topic_reader::Reader;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

pub use args::AuditConfig;

use checks::Evidence;
use dead_letters::Letters;
use reading_search::Search;
use report::Report;

/// Exit code: the books do not balance.
const EXIT_FAILURE: u8 = 1;

/// Exit code: nobody can tell, because a server did not answer.
pub const EXIT_UNKNOWN: u8 = 3;

/// Audits a group and prints the report; the exit code is the verdict.
pub async fn audit(config: &AuditConfig, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let work = tokio::time::timeout(config.timeout, report(config));
    let report = tokio::select! {
        report = work => report.context("not judged within --timeout")??,
        () = stop.cancelled() => anyhow::bail!("interrupted"),
    };
    print::print(&report, config.json, &mut std::io::stdout())?;
    Ok(if report.holds { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) })
}

async fn report(config: &AuditConfig) -> anyhow::Result<Report> {
    // The whole of it has a limit; one of its scans may take as long.
    let pool = config.mysql.connect(&config.zone.zone)?.with_limit(config.timeout);
    // Before the watermarks and the letters: what the ledger has passed, they have by then.
    let mysql = snapshot::snapshot(&pool, &config.group, &config.kafka.readings_topic).await?;
    let accepted = ljwx_ledger::ledger::accepted(&pool, &config.kafka.readings_topic).await?;
    let (config, runtime) = (config.clone(), Handle::current());
    let work = move || ask_kafka(&config, mysql, &accepted, &pool, &runtime);
    tokio::task::spawn_blocking(work).await?
}

/// What Kafka says about the snapshot. Blocks.
fn ask_kafka(
    config: &AuditConfig,
    mysql: snapshot::Snapshot,
    accepted: &Accepted,
    pool: &MySqlPool,
    runtime: &Handle,
) -> anyhow::Result<Report> {
    let (group, topic) = (&config.group, &config.kafka.readings_topic);
    let reader = Reader::new(&config.kafka, "worker-audit")?;
    let found = reader.identity(topic, REQUEST_TIMEOUT)?;
    let other_topic = found.and_then(|found| accepted.check(topic, &found).err());
    reader.count_from(topic, accepted.base);
    // The ends of another topic say nothing about this ledger.
    let readings = if other_topic.is_none() { reader.ends(topic)? } else { None };
    let other_topic = other_topic.map(|error| error.to_string());
    let stretches = readings.iter().flatten().map(|(at, ends)| (*at, ends.low..ends.high));
    let record_ends = reader.record_ends(topic, &stretches.collect())?;
    let letters_topic = config.kafka.dead_letter_topic(group);
    let ends = reader.ends(&letters_topic)?;
    let mut letters = Letters::read(&reader, &letters_topic, ends.as_ref(), topic)?;
    let identities = letters.found.values().flatten();
    let stored = runtime.block_on(snapshot::stored(pool, identities))?;
    letters.keep_stored(&stored);
    let rejects = reader.ends(&config.kafka.rejects_topic)?;
    let rejects = rejects.map(|ends| ends.values().map(|ends| ends.high - ends.low).sum());
    let evidence = Evidence { mysql, readings, record_ends, other_topic, letters };
    let wanted = config.device.is_some() || config.from.is_some() || config.to.is_some();
    let search = wanted.then(|| Search::run(config, &evidence, &reader, pool, runtime));
    Ok(Report::new(group, topic, &evidence, rejects, search.transpose()?))
}
