//! `worker dlq`: looking at what did not get through, and sending it back.

mod args;
mod record;
mod replay;

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Context;
use jiff::Timestamp;
use ljwx_service::config::When;
use ljwx_service::kafka::REQUEST_TIMEOUT;
use ljwx_service::kafka::topic_reader::{Ends, Reader};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};

pub use args::DlqConfig;

use args::{Action, FilterArgs};
use record::Letter;

/// Does what `config` says; prints to standard output.
pub async fn dlq(config: &DlqConfig) -> anyhow::Result<()> {
    match &config.action {
        Action::Replay { dry_run, rate, max_replays, name } => {
            replay::run(config, *dry_run, *rate, *max_replays, name).await
        }
        Action::Purge { execute } => purge(config, *execute).await,
        Action::List { .. } | Action::Show { .. } => {
            let config = config.clone();
            tokio::task::spawn_blocking(move || look(&config)).await?
        }
    }
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
fn look(config: &DlqConfig) -> anyhow::Result<()> {
    let (reader, topic, ends) = open(config)?;
    let mut shown = 0;
    if let Action::Show { partition, offset } = &config.action {
        let stretch = BTreeMap::from([(*partition, *offset..offset + 1)]);
        reader.read(&topic, &stretch, |message| {
            show(&Letter::of(message));
            shown += 1;
            Ok(())
        })?;
        anyhow::ensure!(shown == 1, "{topic} holds no record {partition}/{offset}");
        return Ok(());
    }
    let limit = if let Action::List { limit } = &config.action { *limit } else { 0 };
    let mut found = 0;
    reader.read(&topic, &all(&ends), |message| {
        let letter = Letter::of(message);
        if config.accepts(&letter) {
            found += 1;
            if shown < limit {
                shown += 1;
                println!("{}", line(&letter));
            }
        }
        Ok(())
    })?;
    println!("{found} record(s) of {topic}, {shown} shown");
    Ok(())
}

/// The reader, the topic and its ends.
fn open(config: &DlqConfig) -> anyhow::Result<(Reader, String, Ends)> {
    let topic = config.topic();
    let reader = Reader::new(&config.kafka, "worker-dlq")?;
    let ends = reader.ends(&topic)?.with_context(|| format!("there is no topic {topic}"))?;
    Ok((reader, topic, ends))
}

/// All of the topic. A dead letter keeps its reading's time, so times do not rise along a partition,
/// and only each record's own tells whether it is meant.
fn all(ends: &Ends) -> BTreeMap<i32, Range<i64>> {
    ends.iter().map(|(partition, ends)| (*partition, ends.low..ends.high)).collect()
}

fn line(letter: &Letter) -> String {
    let at = Timestamp::from_millisecond(letter.timestamp_ms)
        .map_or_else(|_| "?".into(), |at| at.to_string());
    format!(
        "{}/{}  {at}  {}  {}  replays {}  {} bytes  {}",
        letter.partition,
        letter.offset,
        letter.device().unwrap_or("-"),
        letter.class(),
        letter.replays(),
        letter.value.len(),
        letter.header("dlq.error.message").or_else(|| letter.header("message")).unwrap_or_default()
    )
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
fn show(letter: &Letter) {
    println!("{}", line(letter));
    for (key, value) in &letter.headers {
        println!("  {key}: {}", String::from_utf8_lossy(value));
    }
    println!("\n{}", String::from_utf8_lossy(&letter.opened()));
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
async fn purge(config: &DlqConfig, execute: bool) -> anyhow::Result<()> {
    let to = config.filter.to.context("--to")?.at_ms(&config.zone.zone);
    let own = config.clone();
    let (topic, cut) = tokio::task::spawn_blocking(move || {
        let (reader, topic, ends) = open(&own)?;
        let at = reader.at_time(&topic, &ends, to)?;
        let cut: Vec<(i32, i64, i64)> =
            ends.iter().map(|(partition, ends)| (*partition, ends.low, at[partition])).collect();
        anyhow::Ok((topic, cut))
    })
    .await??;
    let records: i64 = cut.iter().map(|(_, low, at)| (at - low).max(0)).sum();
    if !execute {
        println!("{records} record(s) of {topic} would be deleted; --execute deletes them");
        return Ok(());
    }
    let mut offsets = TopicPartitionList::new();
    for (partition, _, at) in cut.iter().filter(|(_, low, at)| at > low) {
        offsets.add_partition_offset(&topic, *partition, Offset::Offset(*at))?;
    }
    if offsets.count() > 0 {
        let admin: AdminClient<DefaultClientContext> =
            config.kafka.client_config("worker-dlq").create()?;
        let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT));
        admin.delete_records(&offsets, &options).await.context("cannot delete")?;
    }
    println!("{records} record(s) of {topic} deleted");
    Ok(())
}

impl DlqConfig {
    /// The filter with its times as numbers.
    fn times(&self) -> (i64, i64) {
        let at =
            |when: Option<When>, default| when.map_or(default, |when| when.at_ms(&self.zone.zone));
        (at(self.filter.from, i64::MIN), at(self.filter.to, i64::MAX))
    }

    /// Whether a record is meant.
    fn accepts(&self, letter: &Letter) -> bool {
        let (from, to) = self.times();
        let FilterArgs { class, device, .. } = &self.filter;
        (from..to).contains(&letter.timestamp_ms)
            && class.as_ref().is_none_or(|class| class == letter.class())
            && device.as_deref().is_none_or(|device| letter.device() == Some(device))
    }
}
