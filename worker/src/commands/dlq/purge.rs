//! `worker dlq purge`: deletes old records. Dead letters are recorded in MySQL before Kafka deletes
//! them, so a purge that stops in between loses nothing and can be repeated.

use anyhow::Context;
use ljwx_ledger::mysql::MySqlPool;
use ljwx_service::kafka::REQUEST_TIMEOUT;
use ljwx_service::kafka::topic_reader::{OffsetRanges, TopicReader};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;

use super::args::{DlqArgs, KeptTopic, PurgeArgs};
use super::topic::open;
use crate::dead_letter::source::{SourceOffset, source};
use crate::mysql::purged_letters;

/// Deletes the records before `--to`, or prints their number.
#[expect(clippy::print_stdout, reason = "the command's answer")]
pub async fn run(config: &DlqArgs, settings: &PurgeArgs) -> anyhow::Result<()> {
    let own = config.clone();
    let (topic, cut) = tokio::task::spawn_blocking(move || find(&own)).await??;
    let records: i64 = cut.values().map(|range| range.end - range.start).sum();
    if !settings.execute {
        println!("{records} record(s) of {topic} would be deleted; --execute deletes them");
        return Ok(());
    }
    if config.topic == KeptTopic::DeadLetters {
        let mysql = settings.mysql().context("--mysql-url")?;
        let pool = mysql.connect(&config.zone.zone)?;
        let (own, topic, cut) = (config.clone(), topic.clone(), cut.clone());
        let runtime = Handle::current();
        let work = move || record(&own, &topic, &cut, &pool, &runtime);
        tokio::task::spawn_blocking(work).await??;
    }
    delete(config, &topic, &cut).await?;
    println!("{records} record(s) of {topic} deleted");
    Ok(())
}

/// Returns the topic and its records before `--to`. Blocks.
fn find(config: &DlqArgs) -> anyhow::Result<(String, OffsetRanges)> {
    let to = config.filter.to.context("--to")?.at_ms(&config.zone.zone);
    let (reader, topic, ends) = open(config)?;
    let at = reader.at_time(&topic, &ends, to)?;
    let cut = ends.iter().filter_map(|(partition, ends)| {
        let end = at.get(partition).copied()?;
        (end > ends.low).then_some((*partition, ends.low..end))
    });
    let cut = cut.collect();
    Ok((topic, cut))
}

/// Records the deliveries of the dead letters in the ledger. Blocks.
fn record(
    config: &DlqArgs,
    topic: &str,
    cut: &OffsetRanges,
    pool: &MySqlPool,
    runtime: &Handle,
) -> anyhow::Result<()> {
    let readings = &config.kafka.readings_topic;
    let write = |letters: &[SourceOffset]| {
        runtime
            .block_on(purged_letters::record(pool, &config.group, readings, letters))
            .context("cannot record the dead letters, none was deleted")
    };
    let reader = TopicReader::new(&config.kafka, "worker-dlq")?;
    let mut waiting: Vec<SourceOffset> = Vec::new();
    reader.read(topic, cut, |message| {
        waiting.extend(source(message, readings));
        if waiting.len() >= purged_letters::ROWS_MAX {
            write(&waiting)?;
            waiting.clear();
        }
        Ok(())
    })?;
    write(&waiting)
}

async fn delete(config: &DlqArgs, topic: &str, cut: &OffsetRanges) -> anyhow::Result<()> {
    let mut offsets = TopicPartitionList::new();
    for (partition, range) in cut {
        offsets.add_partition_offset(topic, *partition, Offset::Offset(range.end))?;
    }
    if offsets.count() == 0 {
        return Ok(());
    }
    let admin: AdminClient<DefaultClientContext> =
        config.kafka.client_config("worker-dlq").create()?;
    let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT));
    let deleted = admin.delete_records(&offsets, &options).await.context("cannot delete")?;
    for element in deleted.elements() {
        element.error().with_context(|| format!("cannot delete in {}", element.partition()))?;
    }
    Ok(())
}
