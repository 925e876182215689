//! Exports the metrics of a batch and logs its end.

use std::sync::Once;
use std::time::Duration;

use ljwx_ledger::ledger::Counts;
use metrics::{counter, histogram};
use tracing::{debug, warn};

use crate::batch::{Batch, Segment};
use crate::metrics::{
    BATCH_PROCESSING_SECONDS, BATCH_QUEUE_WAIT_SECONDS, BATCH_SIZE, BATCHES, END_TO_END_SECONDS,
    READINGS, UNBOUND,
};

/// Exports how long the records of a batch had waited when it was taken at `now_ms`: oldest and
/// mean.
pub fn taken(batch: &Batch, now_ms: i64) {
    let records = batch.records().max(1) as i64;
    let oldest = batch.segments.iter().map(|segment| segment.oldest_ms).min().unwrap_or(now_ms);
    let sum: i64 = batch.segments.iter().map(|segment| segment.sum_ms).sum();
    for (statistic, wait_ms) in [("oldest", now_ms - oldest), ("mean", now_ms - sum / records)] {
        histogram!(BATCH_QUEUE_WAIT_SECONDS, "statistic" => statistic)
            .record(wait_ms.max(0) as f64 / 1000.0);
    }
}

/// Counts the outcome of a batch that was committed at `now_ms`, segment by segment. The canary is no
/// device: no count of readings includes it.
pub fn committed(batch: &Batch, counts: &[Counts], now_ms: i64) {
    for (segment, counts) in batch.segments.iter().zip(counts) {
        of_segment(segment, counts, now_ms);
    }
    let rows = batch.segments.iter().flat_map(Segment::all_rows);
    let unbound = rows.filter(|((device_sn, _), row)| {
        !device_sn.is_canary() && row.all_ids().customer_id.is_none()
    });
    counter!(UNBOUND).increment(unbound.map(|(_, row)| row.deliveries.max(0) as u64).sum());
    counter!(BATCHES, "reason" => batch.reason.as_str()).increment(1);
    histogram!(BATCH_SIZE).record(batch.records() as f64);
}

/// Returns the stored and the merged readings of devices. Those of the canary merge, but for the
/// first one of a day.
fn of_devices(counts: &Counts, canaries: i64) -> (i64, i64) {
    let merged = canaries.min(counts.merged);
    (counts.stored - (canaries - merged), counts.merged - merged)
}

fn of_segment(segment: &Segment, counts: &Counts, now_ms: i64) {
    let canaries = segment.all_rows().filter(|((device_sn, _), _)| device_sn.is_canary());
    let (stored, merged) = of_devices(counts, canaries.map(|(_, row)| row.deliveries).sum());
    for (outcome, count) in
        [("stored", stored), ("merged", merged), ("dead_lettered", counts.dead_lettered)]
    {
        counter!(READINGS, "outcome" => outcome).increment(count.max(0) as u64);
    }
    histogram!(END_TO_END_SECONDS).record((now_ms - segment.oldest_ms).max(0) as f64 / 1000.0);
    if segment.gap > 0 {
        // Warn once: nothing compacts this topic, so a gap is worth a look, but each transaction
        // leaves one.
        static LOGGED: Once = Once::new();
        LOGGED.call_once(|| {
            warn!("offsets without a record skipped and counted, transactions leave them")
        });
        debug!(
            partition = segment.partition,
            offset.from = segment.from,
            offset.to = segment.to,
            offsets_skipped = segment.gap,
            "offsets without a record skipped"
        );
    }
}

/// Logs and measures the end of a batch, after its Redis update.
pub fn done(batch: &Batch, counts: &Counts, took: Duration, trace_id: Option<String>) {
    histogram!(BATCH_PROCESSING_SECONDS).record(took);
    debug!(
        batch.id,
        trace_id,
        batch.size = counts.stored + counts.merged + counts.dead_lettered,
        batch.stored = counts.stored,
        batch.dead_letters = counts.dead_lettered,
        batch.reason = batch.reason.as_str(),
        duration_seconds = took.as_secs_f64(),
        "batch written"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canary_is_left_out_of_the_counts_of_readings() {
        let counts = |stored, merged| Counts { stored, merged, ..Counts::default() };
        for (counted, canaries, of_others) in [
            (counts(5, 2), 0, (5, 2)),
            (counts(0, 1), 1, (0, 0)),
            (counts(1, 0), 1, (0, 0)),
            (counts(5, 2), 1, (5, 1)),
            (counts(5, 0), 1, (4, 0)),
        ] {
            assert_eq!(of_devices(&counted, canaries), of_others, "{counted:?} {canaries}");
        }
    }
}
