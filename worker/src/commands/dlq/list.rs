//! `worker dlq list` and `show`: print the records that the filter accepts.

use jiff::Timestamp;
use ljwx_service::kafka::topic_reader::{OffsetRanges, whole};

use super::args::{DlqAction, DlqArgs};
use super::record::KeptRecord;
use super::topic::open;

/// The text in the place of a tombstone's value.
const NULL: &str = "null";

/// Prints one complete record, or one line for each record that the filter accepts.
#[expect(clippy::print_stdout, reason = "the command's answer")]
pub fn list_or_show(config: &DlqArgs) -> anyhow::Result<()> {
    let (reader, topic, ends) = open(config)?;
    let mut shown = 0;
    if let DlqAction::Show { partition, offset } = &config.action {
        // Behind the end, Kafka has no such offset, and the reader would begin with the first record.
        let is_there = ends.get(partition).is_some_and(|ends| *offset < ends.high);
        anyhow::ensure!(is_there, "{topic} holds no record {partition}/{offset}");
        let single = OffsetRanges::from([(*partition, *offset..offset + 1)]);
        reader.read(&topic, &single, |message| {
            show(&KeptRecord::of(message));
            shown += 1;
            Ok(())
        })?;
        anyhow::ensure!(shown == 1, "{topic} holds no record {partition}/{offset}");
        return Ok(());
    }
    let limit = if let DlqAction::List { limit } = &config.action { *limit } else { 0 };
    let mut found = 0;
    // A dead letter keeps its reading's time, so times do not rise along a partition. The filter has
    // to check every record.
    reader.read(&topic, &whole(&ends), |message| {
        let record = KeptRecord::of(message);
        if config.accepts(&record) {
            found += 1;
            if shown < limit {
                shown += 1;
                println!("{}", line(&record));
            }
        }
        Ok(())
    })?;
    println!("{found} record(s) of {topic}, {shown} shown");
    Ok(())
}

fn line(record: &KeptRecord) -> String {
    let at = Timestamp::from_millisecond(record.timestamp_ms)
        .map_or_else(|_| "?".into(), |at| at.to_string());
    let size = record.value.as_ref().map(|value| format!("{} bytes", value.len()));
    format!(
        "{}/{}  {at}  {}  {}  replays {}  {}  {}",
        record.partition,
        record.offset,
        record.device().unwrap_or("-"),
        record.class(),
        record.replays(),
        size.as_deref().unwrap_or(NULL),
        record.message()
    )
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
fn show(record: &KeptRecord) {
    println!("{}", line(record));
    for (key, value) in &record.headers {
        println!("  {key}: {}", String::from_utf8_lossy(value));
    }
    let opened = record.opened();
    let value = record.value.as_ref().map(|_| String::from_utf8_lossy(&opened));
    println!("\n{}", value.as_deref().unwrap_or(NULL));
}
