//! `worker audit`: checks that every reading is accounted for. The audit compares the ledger's
//! equation with Kafka's watermarks, the dead-letter and rejects topics, and the rows.
//!
//! `snapshot` and `dead_letters` read the values, `checks` and `row_checks` compare them, and `print`
//! prints the report.

mod args;
mod checks;
mod dead_letters;
mod evidence;
mod finding;
mod print;
mod reading_search;
mod report;
mod row_checks;
mod snapshot;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use anyhow::Context;
use ljwx_ledger::ledger::AcceptedTopic;
use ljwx_ledger::mysql::MySqlPool;
use ljwx_service::kafka::REQUEST_TIMEOUT;
use ljwx_service::kafka::topic_reader::{TopicReader, whole};
use ljwx_service::text::print_found;
use tokio::runtime::Handle;

pub use args::AuditArgs;

use dead_letters::DeadLetterIndex;
use evidence::Evidence;
use reading_search::ReadingSearch;
use report::AuditReport;

use crate::mysql::{purged_letters, row_count};

/// Exit code: a finding fails the audit.
pub(crate) const EXIT_FAILURE: u8 = 1;

/// Exit code: there is no result, because a server did not answer.
pub const EXIT_UNKNOWN: u8 = 3;

/// Audits a group and prints the report. The exit code is the result.
pub async fn audit(config: &AuditArgs) -> anyhow::Result<ExitCode> {
    let report = tokio::time::timeout(config.timeout, report(config)).await;
    let report = report.context("not judged within --timeout")??;
    print_found(config.json, &report, &mut std::io::stdout(), print::print)?;
    Ok(if report.holds { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) })
}

async fn report(config: &AuditArgs) -> anyhow::Result<AuditReport> {
    // The audit as a whole has this limit, so one of its scans may take as long.
    let pool = config.mysql.connect(&config.zone.zone)?.with_limit(config.timeout);
    if config.full {
        row_count::forget_all(&pool).await.context("cannot forget the counts")?;
    }
    row_count::count_new_rows(&pool).await.context("cannot count the rows")?;
    // Read the ledger before the watermarks and the dead letters: they then have everything that
    // the ledger has passed.
    let mysql = snapshot::snapshot(&pool, &config.group, &config.kafka.readings_topic).await?;
    let accepted = ljwx_ledger::ledger::accepted(&pool, &config.kafka.readings_topic).await?;
    let (config, runtime) = (config.clone(), Handle::current());
    let work = move || query_kafka(&config, mysql, &accepted, &pool, &runtime);
    tokio::task::spawn_blocking(work).await?
}

/// Reads from Kafka the values to compare with the snapshot. Blocks.
fn query_kafka(
    config: &AuditArgs,
    mysql: snapshot::Snapshot,
    accepted: &AcceptedTopic,
    pool: &MySqlPool,
    runtime: &Handle,
) -> anyhow::Result<AuditReport> {
    let (group, topic) = (&config.group, &config.kafka.readings_topic);
    let reader = TopicReader::new(&config.kafka, "worker-audit")?;
    let found = reader.identity(topic, REQUEST_TIMEOUT)?;
    let other_topic = found.and_then(|found| accepted.check(topic, &found).err());
    reader.count_from(topic, accepted.base);
    // Watermarks of another topic cannot be compared with this ledger.
    let readings = if other_topic.is_none() { reader.ends(topic)? } else { None };
    let other_topic = other_topic.map(|error| error.to_string());
    let ranges = readings.as_ref().map(whole).unwrap_or_default();
    let record_ends = reader.record_ends(topic, &ranges)?;
    let letters_topic = config.kafka.dead_letter_topic(group);
    let ends = reader.ends(&letters_topic)?;
    let mut letters = DeadLetterIndex::read(&reader, &letters_topic, ends.as_ref(), topic)?;
    let identities = letters.found.values().flatten();
    let stored = runtime.block_on(snapshot::stored(pool, identities))?;
    letters.keep_stored(&stored);
    // A purge records a dead letter before it deletes it. Read after the topic, none is missed.
    let purged = runtime.block_on(purged_letters::read(pool, group, topic));
    let purged = purged.context("cannot read the purged dead letters; run `worker migrate`")?;
    letters.purged = purged.into_iter().collect();
    let rejects = reader.ends(&config.kafka.rejects_topic)?;
    let rejects = rejects.map(|ends| ends.values().map(|ends| ends.high - ends.low).sum());
    let evidence = Evidence { mysql, readings, record_ends, other_topic, dead_letters: letters };
    let wanted = config.device.is_some() || config.from.is_some() || config.to.is_some();
    let search = wanted.then(|| ReadingSearch::run(config, &evidence, &reader, pool, runtime));
    Ok(AuditReport::new(group, topic, &evidence, rejects, search.transpose()?))
}
