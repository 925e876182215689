//! Reads from the headers of a dead letter the delivery that it is about.

use ljwx_ledger::dead_letter_headers::{
    SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC, last_header,
};
use rdkafka::message::{BorrowedMessage, Message};

/// Partition and offset in the readings topic.
pub type SourceOffset = (i32, i64);

/// Returns the delivery of a dead letter; `None` if it is of another topic, or if headers are
/// missing.
pub fn source(message: &BorrowedMessage<'_>, source_topic: &str) -> Option<SourceOffset> {
    let header = |name: &str| last_header(message.headers(), name);
    if header(SOURCE_TOPIC)? != source_topic {
        return None;
    }
    Some((header(SOURCE_PARTITION)?.parse().ok()?, header(SOURCE_OFFSET)?.parse().ok()?))
}
