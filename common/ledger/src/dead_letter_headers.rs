//! The headers of dead letters.

use rdkafka::message::Headers;

/// The topic of the delivery.
pub const SOURCE_TOPIC: &str = "dlq.source.topic";

/// The partition of the delivery.
pub const SOURCE_PARTITION: &str = "dlq.source.partition";

/// The offset of the delivery, as the ledger counts.
pub const SOURCE_OFFSET: &str = "dlq.source.offset";

/// The class of the error.
pub const ERROR_CLASS: &str = "dlq.error.class";

/// The code of the error. Empty if it has none.
pub const ERROR_CODE: &str = "dlq.error.code";

/// The message of the error.
pub const ERROR_MESSAGE: &str = "dlq.error.message";

/// The time of the reading's first dead letter. A replay keeps it.
pub const FIRST_FAILED_AT: &str = "dlq.first_failed_at";

/// The number of the reading's dead letters so far. A replay keeps it.
pub const ATTEMPTS: &str = "dlq.attempts";

/// The original length of the value of a cut dead letter, in bytes.
pub const CUT_FROM_BYTES: &str = "dlq.cut.from_bytes";

/// Returns the last value of a header as text. A dead letter that was replayed and failed again has
/// older headers too.
pub fn last_header<'a>(headers: Option<&'a impl Headers>, name: &str) -> Option<&'a str> {
    let last = headers?.iter().filter(|header| header.key == name).last()?;
    std::str::from_utf8(last.value?).ok()
}
