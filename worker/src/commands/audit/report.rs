//! Computes the report: one line for each partition, and their totals.

use ljwx_ledger::ledger::LedgerRow;
use serde::Serialize;

use super::checks::check_evidence;
use super::evidence::Evidence;
use super::finding::{Finding, FindingLevel};
use super::reading_search::ReadingSearch;

/// The line of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PartitionTotals {
    /// First record that the topic still has.
    pub low: i64,
    /// End of the topic.
    pub high: i64,
    /// The row of the ledger.
    #[serde(flatten)]
    pub entry: LedgerRow,
    /// Offsets that the counts explain.
    pub explained: i64,
    /// Offsets unaccounted for.
    pub difference: i64,
    /// Records that the group has not processed.
    pub lag: i64,
    /// Deliveries in the dead-letter topic, or purged from it.
    pub letters: i64,
    /// Rows of the main table, those of dropped months included.
    pub rows: i64,
}

/// The result of the audit.
#[derive(Debug, Clone, Serialize)]
pub struct AuditReport {
    pub group: String,
    pub topic: String,
    /// Whether no finding fails the audit.
    pub holds: bool,
    pub partitions: Vec<PartitionTotals>,
    /// Sums of all partitions.
    pub totals: PartitionTotals,
    /// Records of the dead-letter topic, including dead letters that were written twice.
    pub dead_letter_records: i64,
    /// Records of the rejects topic; `None` if there is no rejects topic.
    pub reject_records: Option<i64>,
    /// The readings that were looked up one by one.
    pub readings: Option<ReadingSearch>,
    /// Findings, failures first.
    pub findings: Vec<Finding>,
}

impl AuditReport {
    /// Computes the lines and the findings.
    pub fn new(
        group: &str,
        topic: &str,
        evidence: &Evidence,
        rejects: Option<i64>,
        readings: Option<ReadingSearch>,
    ) -> Self {
        let mut findings = check_evidence(evidence);
        findings.extend(readings.as_ref().and_then(ReadingSearch::finding));
        findings.sort_by_key(|finding| finding.level != FindingLevel::Failure);
        let partitions: Vec<PartitionTotals> = evidence
            .mysql
            .ledger
            .values()
            .map(|entry| PartitionTotals::new(entry, evidence))
            .collect();
        Self {
            group: group.to_owned(),
            topic: topic.to_owned(),
            holds: findings.iter().all(|finding| finding.level != FindingLevel::Failure),
            totals: partitions.iter().fold(PartitionTotals::default(), PartitionTotals::plus),
            partitions,
            dead_letter_records: evidence.dead_letters.records,
            reject_records: rejects,
            readings,
            findings,
        }
    }
}

impl PartitionTotals {
    fn new(entry: &LedgerRow, evidence: &Evidence) -> Self {
        let ends = evidence.readings.as_ref().and_then(|ends| ends.get(&entry.partition));
        let ends = ends.copied().unwrap_or_default();
        let passed = entry.first_offset..entry.next_offset;
        let letters = evidence.dead_letters.count(entry.partition, &passed);
        let rows = super::row_checks::own_rows(evidence, entry.partition).rows;
        Self {
            low: ends.low,
            high: ends.high,
            entry: *entry,
            explained: entry.explained(),
            difference: entry.difference(),
            lag: (evidence.end(entry.partition) - entry.next_offset).max(0),
            letters: letters.counted + letters.purged,
            rows,
        }
    }

    fn plus(mut self, other: &Self) -> Self {
        let (sum, entry) = (&mut self.entry, &other.entry);
        sum.first_offset += entry.first_offset;
        sum.next_offset += entry.next_offset;
        sum.stored += entry.stored;
        sum.merged += entry.merged;
        sum.dead_lettered += entry.dead_lettered;
        sum.skipped_gap += entry.skipped_gap;
        sum.rewound += entry.rewound;
        sum.processed += entry.processed;
        self.low += other.low;
        self.high += other.high;
        self.explained += other.explained;
        self.difference += other.difference;
        self.lag += other.lag;
        self.letters += other.letters;
        self.rows += other.rows;
        self
    }
}
