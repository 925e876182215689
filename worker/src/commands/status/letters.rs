//! Counts the dead letters of a group by class.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::ensure;
use ljwx_ledger::dead_letter_headers::{ERROR_CLASS, last_header};
use ljwx_service::kafka::topic_reader::{TopicReader, whole};
use rdkafka::message::Message;

use super::report::DeadLetterCounts;

/// The class of a record without one, which another program has written.
const NO_CLASS: &str = "unknown";

/// Reads the whole topic, or as much of it as can be read until `deadline`. Blocks.
pub fn count(
    reader: &TopicReader,
    topic: &str,
    deadline: Instant,
) -> anyhow::Result<DeadLetterCounts> {
    let Some(ends) = reader.ends(topic)? else {
        return Ok(DeadLetterCounts { is_missing: true, ..DeadLetterCounts::default() });
    };
    let mut classes: BTreeMap<String, u64> = BTreeMap::new();
    let read = reader.read(topic, &whole(&ends), |message| {
        let class = last_header(message.headers(), ERROR_CLASS).unwrap_or(NO_CLASS);
        *classes.entry(class.to_owned()).or_default() += 1;
        ensure!(Instant::now() < deadline, "--timeout is over");
        Ok(())
    });
    let is_whole = read.is_ok();
    if classes.is_empty() {
        read?;
    }
    Ok(DeadLetterCounts { classes, is_whole, is_missing: false })
}
