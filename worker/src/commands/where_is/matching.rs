//! Decides which records belong to a reading. Pure.

use jiff::tz::TimeZone;
use ljwx_ledger::dead_letter_headers::{ERROR_CODE, SOURCE_OFFSET, SOURCE_PARTITION};
use ljwx_ledger::group::delivery::{REPLAY_COUNT, REPLAY_OFFSET, REPLAY_PARTITION};
use ljwx_reading::{Reading, wall_text, wall_text_of, wire};
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
        received_at: wall_text_of(reading.received_at_ms(), zone),
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
    let code = record.header(ERROR_CODE).filter(|code| !code.is_empty());
    KeptMatch {
        position: Position { partition: record.partition, offset: record.offset },
        certain,
        kept_at: wall_text_of(record.timestamp_ms, zone),
        class: record.class().to_owned(),
        code: code.map(str::to_owned),
        message: record.message().to_owned(),
        source: position(record, SOURCE_PARTITION, SOURCE_OFFSET),
        trace: record.header(TRACEPARENT).and_then(trace_of),
    }
}

/// Returns the trace in a `traceparent`.
pub fn trace_of(traceparent: &str) -> Option<RecordTraceId> {
    let context = trace::read(traceparent.as_bytes())?;
    Some(RecordTraceId { trace_id: context.trace_id().to_string(), sampled: context.is_sampled() })
}

#[cfg(test)]
#[path = "matching_tests.rs"]
mod tests;
