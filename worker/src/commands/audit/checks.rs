//! Compares the values that the audit has read, without a query. Every finding has a stable code
//! and a remedy.

use ljwx_ledger::ledger::LedgerRow;

use super::evidence::Evidence;
use super::finding::{Finding, FindingLevel, Findings};
use super::row_checks::{other_rows, rows};

/// Compares all values that must agree.
pub fn check_evidence(evidence: &Evidence) -> Vec<Finding> {
    let mut findings = Findings::default();
    if evidence.mysql.ledger.is_empty() {
        findings.add(
            FindingLevel::Failure,
            "no_ledger",
            None,
            "the group has no row in the ledger".into(),
            "check --group and --readings-topic, or start a worker first",
        );
    }
    if let Some(message) = &evidence.other_topic {
        findings.add(
            FindingLevel::Failure,
            "other_topic",
            None,
            message.clone(),
            "`worker migrate --accept-topic`, once nothing reads the topic",
        );
    }
    for entry in evidence.mysql.ledger.values() {
        equation(entry, &mut findings);
        processed(entry, &mut findings);
        if evidence.other_topic.is_none() {
            positions(entry, evidence, &mut findings);
        }
        letters(entry, evidence, &mut findings);
    }
    gaps(evidence, &mut findings);
    unclaimed(evidence, &mut findings);
    rows(evidence, &mut findings);
    other_rows(evidence, &mut findings);
    findings.0
}

fn equation(entry: &LedgerRow, findings: &mut Findings) {
    let negative = entry.negative();
    if !negative.is_empty() {
        findings.add(
            FindingLevel::Failure,
            "negative_count",
            entry.partition,
            format!("below zero: {}", negative.join(", ")),
            "the ledger was changed by hand: restore its row from a backup",
        );
    }
    if entry.rewound == 0 && entry.first_offset > entry.next_offset {
        findings.add(
            FindingLevel::Failure,
            "first_after_next",
            entry.partition,
            format!("begins at {} and stands at {}", entry.first_offset, entry.next_offset),
            "the ledger was changed by hand: restore its row from a backup",
        );
    }
    if entry.difference() != 0 {
        findings.add(
            FindingLevel::Failure,
            "equation",
            entry.partition,
            format!(
                "{} offsets passed, {} explained: {} unaccounted for",
                entry.passed(),
                entry.explained(),
                entry.difference()
            ),
            "the ledger was changed by hand, or by another program: compare it with a backup, and \
             move positions only by `worker offsets`",
        );
    }
}

/// No worker has stored the deliveries that an alerter in this group passed, unless they were
/// reprocessed since.
fn processed(entry: &LedgerRow, findings: &mut Findings) {
    if entry.processed > 0 {
        let again = entry.rewound >= entry.processed;
        findings.add(
            if again { FindingLevel::Note } else { FindingLevel::Failure },
            "processed",
            entry.partition,
            format!("{} deliveries were passed by an alerter of this group", entry.processed),
            "no worker stored them: set ALERTER_GROUP to a name of its own; `worker offsets --to-start` \
             then stores what the topic still has",
        );
    }
}

fn positions(entry: &LedgerRow, evidence: &Evidence, findings: &mut Findings) {
    let ends = evidence.readings.as_ref().and_then(|ends| ends.get(&entry.partition));
    let Some(ends) = ends else {
        let former = is_of_former_topic(entry, evidence);
        findings.add(
            if former { FindingLevel::Note } else { FindingLevel::Failure },
            "no_such_partition",
            entry.partition,
            "the topic has no such partition".into(),
            "check --readings-topic: the topic was deleted, or accepted with fewer partitions",
        );
        return;
    };
    let (first, next) = (entry.first_offset, entry.next_offset);
    if next > ends.high || first > ends.high {
        findings.add(
            FindingLevel::Failure,
            "beyond_topic",
            entry.partition,
            format!("stands at {next} (first {first}), but the topic ends at {}", ends.high),
            "the brokers lost records: `worker offsets --to-end` goes on from the topic's end",
        );
    }
    if next < ends.low {
        findings.add(
            FindingLevel::Failure,
            "out_of_range",
            entry.partition,
            format!("stands at {next}, but retention has deleted everything before {}", ends.low),
            "these readings are gone; `worker offsets --to-start` goes on with what is left and \
             records the gap",
        );
    }
}

/// Whether only a former topic had the partition: the present one was accepted with fewer.
fn is_of_former_topic(entry: &LedgerRow, evidence: &Evidence) -> bool {
    let mut gaps = evidence.mysql.gaps.iter();
    evidence.readings.is_some()
        && gaps.any(|gap| gap.partition == entry.partition && gap.base == entry.next_offset)
}

/// Compares exactly while nothing was rewound. A rewind counts dead letters again, so after it only
/// bounds hold. A purged dead letter may be one whose reading was stored after all, so it raises
/// the upper bound only. The row of such a reading may be gone with its month or by an erasure, so
/// rows that are gone lower the lower bound.
fn letters(entry: &LedgerRow, evidence: &Evidence, findings: &mut Findings) {
    let letters = &evidence.dead_letters;
    let (partition, counted) = (entry.partition, entry.dead_lettered);
    let passed = letters.count(partition, &(entry.first_offset..entry.next_offset));
    let rewound = entry.rewound.max(0);
    let wide = entry.first_offset - rewound..entry.next_offset + rewound;
    let rows_gone = evidence.mysql.gone.get(&i64::from(partition)).copied().unwrap_or_default();
    let least = passed.counted - passed.stored - rows_gone.deliveries;
    let known = passed.counted + passed.purged;
    // If the known letters explain the count, no letter that the ledger counts has expired.
    let gone = letters.expired.contains(&partition) || lost_with_kafka(entry, evidence);
    let expired = gone && known != counted;
    let near = letters.count(partition, &wide);
    let most = if expired { i64::MAX } else { near.counted + near.purged + rewound };
    if counted < least || counted > most {
        findings.add(
            FindingLevel::Failure,
            "dead_letters",
            partition,
            format!(
                "the ledger counts {counted}, the dead-letter topic has {} ({} stored after all), {} \
                 were purged",
                passed.counted, passed.stored, passed.purged
            ),
            "look at the topic's records by their dlq.source headers: a missing one is a lost \
             reading, one too many is no letter of this group",
        );
    }
    if passed.stored > 0 {
        findings.add(
            FindingLevel::Note,
            "letters_stored",
            partition,
            format!("{} dead letters have a row after all", passed.stored),
            "nothing: sent again or replayed, or a crash came between letter and commit",
        );
    }
    if passed.in_flight > 0 && rewound == 0 {
        findings.add(
            FindingLevel::Note,
            "letters_in_flight",
            partition,
            format!("{} dead letters are ahead of the ledger", passed.in_flight),
            "nothing: their batch is not committed yet",
        );
    }
    if expired {
        findings.add(
            FindingLevel::Note,
            "letters_expired",
            partition,
            "old dead letters were deleted, so only the others were compared".into(),
            "nothing",
        );
    }
}

/// Whether the dead letters of a former topic may be gone with it: the topic has none of them.
fn lost_with_kafka(entry: &LedgerRow, evidence: &Evidence) -> bool {
    let gaps = evidence.mysql.gaps.iter().filter(|gap| gap.partition == entry.partition);
    gaps.map(|gap| gap.base).max().is_some_and(|base| {
        let former = entry.first_offset.min(base)..base;
        evidence.dead_letters.count(entry.partition, &former).counted == 0
    })
}

/// Reports where former topics ended that were recreated.
fn gaps(evidence: &Evidence, findings: &mut Findings) {
    for gap in &evidence.mysql.gaps {
        findings.add(
            FindingLevel::Note,
            "topic_made_anew",
            gap.partition,
            format!(
                "accepted on {}; the group stood at {} and went on at {}",
                gap.accepted_at, gap.stood_at, gap.base
            ),
            "nothing can be done: acknowledged readings behind where it stood may be lost with the \
             former topic",
        );
    }
}

/// Reports partitions that no worker has claimed yet.
fn unclaimed(evidence: &Evidence, findings: &mut Findings) {
    let ledger = &evidence.mysql.ledger;
    for (partition, ends) in evidence.readings.iter().flatten() {
        if !ledger.is_empty() && !ledger.contains_key(partition) {
            findings.add(
                FindingLevel::Note,
                "unclaimed",
                *partition,
                format!("no ledger row yet; {} records wait", evidence.end(*partition) - ends.low),
                "nothing, once a worker has taken the partition",
            );
        }
    }
}
