//! Counts the dead letters of a group by class.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, ensure};
use ljwx_service::kafka::topic_reader::TopicReader;
use rdkafka::message::{BorrowedMessage, Headers, Message};

use super::report::DeadLetterCounts;

/// The class of a record without one, which another program has written.
const NO_CLASS: &str = "unknown";

/// Reads the whole topic, or as much of it as can be read until `deadline`. Blocks.
pub fn count(
    reader: &TopicReader,
    topic: &str,
    deadline: Instant,
) -> anyhow::Result<DeadLetterCounts> {
    let ends = reader.ends(topic)?.with_context(|| format!("there is no topic {topic}"))?;
    let stretches = ends.iter().map(|(partition, ends)| (*partition, ends.low..ends.high));
    let mut classes: BTreeMap<String, u64> = BTreeMap::new();
    let read = reader.read(topic, &stretches.collect(), |message| {
        *classes.entry(class(message)).or_default() += 1;
        ensure!(Instant::now() < deadline, "--timeout is over");
        Ok(())
    });
    let is_whole = read.is_ok();
    if classes.is_empty() {
        read?;
    }
    Ok(DeadLetterCounts { classes, is_whole })
}

fn class(message: &BorrowedMessage<'_>) -> String {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    // A dead letter that was replayed and failed again has older headers too.
    let last = headers.filter(|header| header.key == "dlq.error.class").last();
    let class = last.and_then(|header| std::str::from_utf8(header.value?).ok());
    class.unwrap_or(NO_CLASS).to_owned()
}
