//! `worker dlq list` and `show`: print the records that the filter accepts.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::Timestamp;
use ljwx_service::kafka::topic_reader::Ends;

use super::args::{Action, DlqConfig};
use super::record::Letter;
use super::topic::open;

/// Prints one complete record, or one line for each record that the filter accepts.
#[expect(clippy::print_stdout, reason = "the command's answer")]
pub fn look(config: &DlqConfig) -> anyhow::Result<()> {
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

/// Returns the ranges of the whole topic. A dead letter keeps its reading's time, so times do not
/// rise along a partition. The filter has to check every record.
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
