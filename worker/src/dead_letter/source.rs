//! Reads from the headers of a dead letter the delivery that it is about.

use rdkafka::message::{BorrowedMessage, Headers, Message};

/// Partition and offset in the readings topic.
pub type SourceOffset = (i32, i64);

/// Returns the delivery of a dead letter; `None` if it is of another topic, or if headers are
/// missing.
pub fn source(message: &BorrowedMessage<'_>, source_topic: &str) -> Option<SourceOffset> {
    let header = |name: &str| {
        // The last header counts: a replayed dead letter that failed again has older headers too.
        let headers = message.headers()?;
        let last = headers.iter().filter(|header| header.key == name).last()?;
        std::str::from_utf8(last.value?).ok()
    };
    if header("dlq.source.topic")? != source_topic {
        return None;
    }
    Some((
        header("dlq.source.partition")?.parse().ok()?,
        header("dlq.source.offset")?.parse().ok()?,
    ))
}
