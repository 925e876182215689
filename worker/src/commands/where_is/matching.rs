//! Decides which records belong to a reading, and in which partition its records are. Pure.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ljwx_ledger::group::delivery::{REPLAY_COUNT, REPLAY_OFFSET, REPLAY_PARTITION};
use ljwx_reading::{Reading, wall_text, wire};
use ljwx_service::telemetry::trace::{self, TRACEPARENT};

use super::answers::{
    FoundRecord, KeptMatch, Position, RecordTraceId, ReplayHeaders, SoughtReading,
};
use crate::commands::dlq::args::KeptTopic;
use crate::commands::dlq::record::KeptRecord;

/// Header of a reject: the receipt, in milliseconds since 1970.
const RECEIVED_AT: &str = "received_at";

/// A receipt in the year 2100. An item that was rejected for a time too far ahead becomes readable
/// with it.
const LATE_RECEIPT_MS: &str = "4102444800000";

/// Returns the partition that the producers choose for a key: Kafka's murmur2, as positive number.
pub fn partition_of_key(key: &[u8], partitions: usize) -> Option<i32> {
    let partitions = u32::try_from(partitions).ok().filter(|count| *count > 0)?;
    i32::try_from((murmur2(key) & 0x7fff_ffff) % partitions).ok()
}

/// Kafka's hash of a key.
fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const FACTOR: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ (key.len() as u32);
    let words = key.chunks_exact(4);
    let rest = words.remainder();
    for word in words {
        let mut mixed = little_endian(word).wrapping_mul(FACTOR);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(FACTOR) ^ mixed.wrapping_mul(FACTOR);
    }
    if !rest.is_empty() {
        hash = (hash ^ little_endian(rest)).wrapping_mul(FACTOR);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(FACTOR);
    hash ^ (hash >> 15)
}

/// Returns the number of at most four bytes, the lowest first.
fn little_endian(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| (number << 8) | u32::from(*byte))
}

/// Whether a record with this key can be one of the device. Records of other producers may have no
/// key.
pub fn may_be_of(key: Option<&[u8]>, sought: &SoughtReading) -> bool {
    key.is_none_or(|key| key == sought.device.as_bytes())
}

/// Whether a reading is the one to look for.
fn is_sought(reading: &Reading, sought: &SoughtReading) -> bool {
    reading.device_sn().as_str() == sought.device && wall_text(reading.timestamp()) == sought.time
}

/// Returns the record, if it holds the reading. Its offset is counted as in the ledger.
pub fn record(
    record: &KeptRecord,
    offset: i64,
    sought: &SoughtReading,
    zone: &TimeZone,
) -> Option<FoundRecord> {
    let reading = wire::decode(record.value.as_deref()).ok();
    let reading = reading.filter(|reading| is_sought(reading, sought))?;
    let warnings = reading.warnings().iter();
    Some(FoundRecord {
        position: Position { partition: record.partition, offset },
        received_at: wall_of(reading.received_at_ms(), zone),
        ahead_of_clock: reading.ahead_of_clock(),
        warnings: warnings
            .map(|warning| format!("{} {}", warning.field, warning.code.as_str()))
            .collect(),
        replay: replay(record),
        trace: record.header(TRACEPARENT).and_then(trace_of),
    })
}

fn replay(record: &KeptRecord) -> Option<ReplayHeaders> {
    let first = position(record, REPLAY_PARTITION, REPLAY_OFFSET);
    let count = record.header(REPLAY_COUNT).and_then(|count| count.parse().ok());
    let is_replayed = first.is_some() || count.is_some();
    is_replayed.then(|| ReplayHeaders { first, count: count.unwrap_or_default() })
}

fn position(record: &KeptRecord, partition: &str, offset: &str) -> Option<Position> {
    Some(Position {
        partition: record.header(partition)?.parse().ok()?,
        offset: record.header(offset)?.parse().ok()?,
    })
}

/// Returns whether a dead letter certainly is the reading's; `None` if it is another's. A letter
/// that was cut cannot be decoded.
pub fn dead_letter(letter: &KeptRecord, sought: &SoughtReading) -> Option<bool> {
    if let Ok(reading) = wire::decode(letter.value.as_deref()) {
        return is_sought(&reading, sought).then_some(true);
    }
    (letter.device() == Some(&*sought.device)).then_some(false)
}

/// Returns whether a reject certainly is the reading's; `None` if it is another's.
pub fn reject(reject: &KeptRecord, sought: &SoughtReading, zone: &TimeZone) -> Option<bool> {
    if reject.device() != Some(&*sought.device) {
        return None;
    }
    let readings = readings_of(reject, zone);
    let readings = if readings.is_empty() {
        let mut late = reject.clone();
        late.headers.push((RECEIVED_AT.to_owned(), LATE_RECEIPT_MS.as_bytes().to_vec()));
        readings_of(&late, zone)
    } else {
        readings
    };
    if readings.is_empty() {
        return Some(false);
    }
    readings.iter().any(|reading| is_sought(reading, sought)).then_some(true)
}

/// Returns the readings that a replay of the reject would send.
fn readings_of(reject: &KeptRecord, zone: &TimeZone) -> Vec<Reading> {
    let sent = reject.replayed(KeptTopic::Rejects, zone);
    sent.iter().filter_map(|record| wire::decode(record.value.as_deref()).ok()).collect()
}

/// Describes a reject or a dead letter.
pub fn kept(record: &KeptRecord, certain: bool, zone: &TimeZone) -> KeptMatch {
    let code = record.header("dlq.error.code").filter(|code| !code.is_empty());
    let message = record.header("dlq.error.message").or_else(|| record.header("message"));
    KeptMatch {
        position: Position { partition: record.partition, offset: record.offset },
        certain,
        kept_at: wall_of(record.timestamp_ms, zone),
        class: record.class().to_owned(),
        code: code.map(str::to_owned),
        message: message.unwrap_or_default().to_owned(),
        source: position(record, "dlq.source.partition", "dlq.source.offset"),
        trace: record.header(TRACEPARENT).and_then(trace_of),
    }
}

/// Returns the trace in a `traceparent`.
pub fn trace_of(traceparent: &str) -> Option<RecordTraceId> {
    let context = trace::read(traceparent.as_bytes())?;
    Some(RecordTraceId { trace_id: context.trace_id().to_string(), sampled: context.is_sampled() })
}

/// Formats a moment on the devices' wall clock.
pub fn wall_of(at_ms: i64, zone: &TimeZone) -> String {
    Timestamp::from_millisecond(at_ms)
        .map_or_else(|_| "?".to_owned(), |at| wall_text(zone.to_datetime(at)))
}

#[cfg(test)]
#[path = "matching_tests.rs"]
mod tests;
