//! The report of `worker where`: what each part of the pipeline knows of one reading. Pure.

use ljwx_ledger::ledger::LedgerRow;
use serde::Serialize;

use super::answers::{
    AlertSearch, FoundRecord, GroupProgress, HashState, KeptMatch, RecordTraceId, SoughtReading,
    StoredReading, TopicMatches,
};
use crate::commands::audit::EXIT_UNKNOWN;
use crate::commands::part::Part;

/// Exit code: some part knows the reading.
pub const EXIT_FOUND: u8 = 0;

/// Exit code: no part knows the reading, and no part may have forgotten it.
pub const EXIT_NOTHING: u8 = 1;

/// Everything that is known of one reading, in the order of the pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WhereReport {
    pub device_sn: String,
    pub timestamp: String,
    pub group: String,
    /// What the ledger adds to Kafka's offsets. Unknown: the offsets of `readings` are Kafka's.
    pub base: Part<i64>,
    pub readings: Part<TopicMatches<FoundRecord>>,
    pub rejects: Part<TopicMatches<KeptMatch>>,
    pub dead_letters: Part<TopicMatches<KeptMatch>>,
    pub row: Part<Option<StoredReading>>,
    pub group_progress: Part<Vec<GroupProgress>>,
    pub redis: Part<HashState>,
    pub alerts: Part<AlertSearch>,
    pub traces: Vec<RecordTraceId>,
}

impl WhereReport {
    /// Returns the exit code. An unknown part comes first: what it knows may contradict the rest.
    pub fn exit_code(&self) -> u8 {
        if self.has_unknown() {
            return EXIT_UNKNOWN;
        }
        match (self.is_found(), self.is_cut()) {
            (true, _) => EXIT_FOUND,
            (false, true) => EXIT_UNKNOWN,
            (false, false) => EXIT_NOTHING,
        }
    }

    /// Whether a deleted record may have been the reading's.
    fn is_cut(&self) -> bool {
        let kept = [&self.rejects, &self.dead_letters];
        self.readings.known().is_some_and(TopicMatches::is_cut)
            || kept.iter().filter_map(|part| part.known()).any(TopicMatches::is_cut)
    }

    fn has_unknown(&self) -> bool {
        let kept = [&self.rejects, &self.dead_letters];
        self.readings.known().is_none_or(|search| search.stopped.is_some())
            || kept.iter().any(|part| part.known().is_none_or(|search| search.stopped.is_some()))
            || self.base.is_unknown()
            || self.row.is_unknown()
            || self.group_progress.is_unknown()
            || self.redis.is_unknown()
            || self.alerts.is_unknown()
    }

    /// Whether a part certainly knows the reading. An alert alone does not: its time may be that of
    /// a missing reading.
    fn is_found(&self) -> bool {
        let kept = [&self.rejects, &self.dead_letters];
        self.readings.known().is_some_and(|search| !search.matches.is_empty())
            || kept
                .iter()
                .filter_map(|part| part.known())
                .any(|search| search.matches.iter().any(|found| found.certain))
            || self.row.known().is_some_and(Option::is_some)
            || self.redis.known() == Some(&HashState::This)
    }
}

/// Returns where the group stands in each searched partition.
pub fn group_progress(
    search: &TopicMatches<FoundRecord>,
    ledger: &[LedgerRow],
) -> Vec<GroupProgress> {
    let mut partitions: Vec<i32> = search.searched.iter().map(|range| range.partition).collect();
    partitions.extend(search.matches.iter().map(|record| record.position.partition));
    partitions.sort_unstable();
    partitions.dedup();
    let progress = |partition: i32| {
        let row = ledger.iter().find(|row| row.partition == partition);
        let next_offset = row.map(|row| row.next_offset);
        let own = search.matches.iter().filter(|record| record.position.partition == partition);
        let waiting = own
            .map(|record| record.position.offset)
            .filter(|offset| next_offset.is_none_or(|next| *offset >= next));
        GroupProgress { partition, next_offset, waiting: waiting.collect() }
    };
    partitions.into_iter().map(progress).collect()
}

/// Returns the state of a hash with this time.
pub fn hash_state(timestamp: Option<String>, sought: &SoughtReading) -> HashState {
    match timestamp.filter(|timestamp| !timestamp.is_empty()) {
        None => HashState::Missing,
        Some(timestamp) if timestamp == sought.time => HashState::This,
        // Times have one form, so their texts have the order of the times.
        Some(timestamp) if timestamp > sought.time => HashState::Newer { timestamp },
        Some(timestamp) => HashState::Older { timestamp },
    }
}

/// Returns the traces that the parts name, each once.
pub fn traces(
    readings: &Part<TopicMatches<FoundRecord>>,
    kept: [&Part<TopicMatches<KeptMatch>>; 2],
    alerts: &Part<AlertSearch>,
) -> Vec<RecordTraceId> {
    let of_records = readings.known().into_iter().flat_map(|search| &search.matches);
    let of_kept = kept.into_iter().filter_map(Part::known).flat_map(|search| &search.matches);
    let of_alerts = alerts.known().into_iter().flat_map(|search| &search.alerts);
    let notifications = of_alerts.flat_map(|alert| &alert.notifications);
    let all = of_records
        .filter_map(|record| record.trace.as_ref())
        .chain(of_kept.filter(|found| found.certain).filter_map(|found| found.trace.as_ref()))
        .chain(notifications.filter(|one| one.at_reading).filter_map(|one| one.trace.as_ref()));
    let mut traces: Vec<RecordTraceId> = Vec::new();
    for trace in all {
        if !traces.contains(trace) {
            traces.push(trace.clone());
        }
    }
    traces
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
