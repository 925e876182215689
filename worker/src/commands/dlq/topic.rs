//! Opens the topic of a command, applies the filter, and deletes old records.

use anyhow::Context;
use ljwx_service::config::TimeArg;
use ljwx_service::kafka::REQUEST_TIMEOUT;
use ljwx_service::kafka::topic_reader::{TopicReader, TopicWatermarks};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};

use super::args::{DlqArgs, DlqFilterArgs};
use super::record::KeptRecord;

/// Returns a reader, the name of the topic and its watermarks.
pub fn open(config: &DlqArgs) -> anyhow::Result<(TopicReader, String, TopicWatermarks)> {
    let topic = config.topic_name();
    let reader = TopicReader::new(&config.kafka, "worker-dlq")?;
    let ends = reader.ends(&topic)?.with_context(|| format!("there is no topic {topic}"))?;
    Ok((reader, topic, ends))
}

/// `worker dlq purge`: deletes the records before `--to`, or prints their number.
#[expect(clippy::print_stdout, reason = "the command's answer")]
pub async fn purge(config: &DlqArgs, execute: bool) -> anyhow::Result<()> {
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

impl DlqArgs {
    /// Returns the times of the filter, in milliseconds since 1970.
    pub fn times(&self) -> (i64, i64) {
        let at = |when: Option<TimeArg>, default| {
            when.map_or(default, |when| when.at_ms(&self.zone.zone))
        };
        (at(self.filter.from, i64::MIN), at(self.filter.to, i64::MAX))
    }

    /// Returns whether the filter accepts a record.
    pub fn accepts(&self, record: &KeptRecord) -> bool {
        let (from, to) = self.times();
        let DlqFilterArgs { class, device, .. } = &self.filter;
        (from..to).contains(&record.timestamp_ms)
            && class.as_ref().is_none_or(|class| class == record.class())
            && device.as_deref().is_none_or(|device| record.device() == Some(device))
    }
}
