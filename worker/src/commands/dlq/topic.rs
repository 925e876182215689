//! Opens the topic of a command, and applies the filter.

use anyhow::Context;
use ljwx_service::config::TimeArg;
use ljwx_service::kafka::topic_reader::{TopicReader, TopicWatermarks};

use super::args::{DlqArgs, DlqFilterArgs};
use super::record::KeptRecord;

/// Returns a reader, the name of the topic and its watermarks.
pub fn open(config: &DlqArgs) -> anyhow::Result<(TopicReader, String, TopicWatermarks)> {
    let topic = config.topic_name();
    let reader = TopicReader::new(&config.kafka, "worker-dlq")?;
    let ends = reader.ends(&topic)?.with_context(|| format!("there is no topic {topic}"))?;
    Ok((reader, topic, ends))
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
