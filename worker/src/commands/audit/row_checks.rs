//! Compares the rows of the main table with the ledger, and tells the worker's rows from those of other
//! writers. Pure.

use super::evidence::Evidence;
use super::finding::{FindingLevel, Findings};
use super::snapshot::Snapshot;
use crate::mysql::row_count::RowCount;

/// Most partitions that a finding names.
const NAMED_MAX: usize = 10;

/// Compares the rows of each partition, and the deliveries of all, with what the ledger counts.
pub fn rows(evidence: &Evidence, findings: &mut Findings) {
    let mysql = &evidence.mysql;
    let mut partitions: Vec<i32> =
        mysql.expected.keys().chain(mysql.rows.keys()).copied().collect();
    partitions.sort_unstable();
    partitions.dedup();
    for partition in &partitions {
        let stored = mysql.expected.get(partition).map_or(0, |expected| expected.stored);
        let found = own_rows(evidence, *partition).rows;
        if found != stored {
            findings.add(
                FindingLevel::Failure,
                "rows",
                *partition,
                format!("{stored} readings stored, {found} rows found"),
                "rows were deleted or added by another program: `worker audit --from` names the \
                 missing ones, and a rewind by `worker offsets` brings back what Kafka still has",
            );
        }
    }
    deliveries(evidence, &partitions, findings);
}

/// Compares the deliveries of all partitions together. If a device has moved, a reading that is sent
/// again counts in the new partition, and its row belongs to the former one. So the partitions that
/// differ are only a hint.
fn deliveries(evidence: &Evidence, partitions: &[i32], findings: &mut Findings) {
    let mysql = &evidence.mysql;
    let (mut counted, mut found, mut differing) = (0, 0, Vec::new());
    for partition in partitions {
        let expected = mysql.expected.get(partition).copied().unwrap_or_default();
        let expected = expected.stored + expected.merged;
        let rows = own_rows(evidence, *partition).deliveries;
        counted += expected;
        found += rows;
        if rows != expected {
            differing.push(format!("partition {partition}: {:+}", rows - expected));
        }
    }
    // The ledger counts merges into rows of other writers, but no row of the worker does.
    let at_most = mysql.others || many_zeros(mysql);
    if found > counted || (!at_most && found < counted) {
        let more = if differing.len() > NAMED_MAX { ", …" } else { "" };
        differing.truncate(NAMED_MAX);
        findings.add(
            FindingLevel::Failure,
            "deliveries",
            None,
            format!(
                "{counted} deliveries counted, {found} found in rows ({}{more})",
                differing.join(", ")
            ),
            "after partitions were added, `worker audit --full` settles this, because it counts all \
             rows anew; else rows were changed by another program, or counts of the ledger were",
        );
    }
}

/// Returns the rows of a partition. The first record of partition 0 has the id 0, which is also the
/// default of other writers. The row belongs to the partition if the ledger begins there and the
/// record is no dead letter.
pub fn own_rows(evidence: &Evidence, partition: i32) -> RowCount {
    let mysql = &evidence.mysql;
    let mut found = mysql.rows.get(&partition).copied().unwrap_or_default();
    if partition == 0 {
        let zeros = own_zeros(evidence);
        found.rows += zeros;
        // If several rows have the id 0, the worker's row among them is unknown.
        found.deliveries +=
            if many_zeros(mysql) { zeros } else { zeros * mysql.id_zero.deliveries };
    }
    found
}

/// Returns how many rows with the id 0 are the worker's: one, and one more for each that was erased and
/// is stored again.
fn own_zeros(evidence: &Evidence) -> i64 {
    let mysql = &evidence.mysql;
    if !zero_is_ours(evidence) {
        return 0;
    }
    let most = mysql.id_zero.rows.min(1 + mysql.erased.zeros);
    let stored = mysql.expected.get(&0).map_or(0, |expected| expected.stored);
    let found = mysql.rows.get(&0).map_or(0, |count| count.rows);
    (stored - found).clamp(1, most)
}

fn zero_is_ours(evidence: &Evidence) -> bool {
    let begun = evidence.mysql.expected.get(&0).is_some_and(|expected| expected.stored > 0)
        && evidence.mysql.ledger.get(&0).is_none_or(|entry| entry.first_offset == 0);
    let letters = &evidence.dead_letters;
    let letter = letters.found.contains_key(&(0, 0)) && !letters.stored.contains(&(0, 0));
    // The identity of a purged dead letter is unknown. Its replay stored it if a row is missing.
    let purged = letters.purged.contains(&(0, 0)) && !misses_a_row(&evidence.mysql);
    evidence.mysql.id_zero.rows > 0 && begun && !letter && !purged
}

/// Whether partition 0 has a row less than were stored, not counting those with the id 0.
fn misses_a_row(mysql: &Snapshot) -> bool {
    let found = mysql.rows.get(&0).map_or(0, |count| count.rows);
    mysql.expected.get(&0).is_some_and(|expected| expected.stored == found + 1)
}

fn many_zeros(mysql: &Snapshot) -> bool {
    mysql.id_zero.rows > 1
}

/// Notes that there are rows of other writers.
pub fn other_rows(evidence: &Evidence, findings: &mut Findings) {
    let mysql = &evidence.mysql;
    let zeros = mysql.id_zero.rows - own_zeros(evidence);
    if mysql.others || zeros > 0 {
        findings.add(
            FindingLevel::Note,
            "other_rows",
            None,
            "there are rows of other writers, which are not counted".into(),
            "nothing, where another program writes the table or its rows were adopted",
        );
    }
}
