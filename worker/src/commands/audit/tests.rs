//! Tests the checks on constructed values.

use ljwx_ledger::ledger::LedgerRow;
use ljwx_service::kafka::topic_reader::Watermarks;
use ljwx_service::text::print_found;

use super::checks::check_evidence;
use super::evidence::Evidence;
use super::finding::FindingLevel;
use super::report::AuditReport;
use super::snapshot::{ExpectedRows, TopicGap};
use crate::mysql::row_count::RowCount;

/// Partition 1 with 10 offsets: 6 stored, 3 merged, 1 dead-lettered; partition 0 with id 0.
fn healthy() -> Evidence {
    let mut evidence = Evidence::default();
    let zero = LedgerRow { next_offset: 2, stored: 2, ..LedgerRow::default() };
    let one = LedgerRow {
        partition: 1,
        first_offset: 5,
        next_offset: 15,
        stored: 6,
        merged: 3,
        dead_lettered: 1,
        ..LedgerRow::default()
    };
    evidence.mysql.ledger = [(0, zero), (1, one)].into();
    evidence.mysql.expected =
        [(0, ExpectedRows { stored: 2, merged: 0 }), (1, ExpectedRows { stored: 6, merged: 3 })]
            .into();
    evidence.mysql.rows = [(0, row_count(1, 1)), (1, row_count(6, 9))].into();
    evidence.mysql.id_zero = row_count(1, 1);
    let low_high = |low, high| Watermarks { low, high };
    evidence.readings = Some([(0, low_high(0, 2)), (1, low_high(5, 20))].into());
    evidence.dead_letters.found = [((1, 7), None)].into();
    evidence
}

fn row_count(rows: i64, deliveries: i64) -> RowCount {
    RowCount { rows, deliveries, others: 0 }
}

fn check(change: impl FnOnce(&mut Evidence), expected: &[(&str, FindingLevel)]) {
    let mut evidence = healthy();
    change(&mut evidence);
    let found: Vec<_> =
        check_evidence(&evidence).iter().map(|finding| (finding.code, finding.level)).collect();
    assert_eq!(found, expected);
}

fn entry(evidence: &mut Evidence) -> &mut LedgerRow {
    evidence.mysql.ledger.get_mut(&1).unwrap()
}

const FAILURE: FindingLevel = FindingLevel::Failure;
const NOTE: FindingLevel = FindingLevel::Note;

#[test]
fn what_balances_is_silent() {
    check(|_| {}, &[]);
}

#[test]
fn the_ledger_is_held_against_itself_and_the_topic() {
    check(|e| entry(e).next_offset += 1, &[("equation", FAILURE)]);
    check(|e| entry(e).first_offset -= 1, &[("equation", FAILURE)]);
    check(|e| entry(e).skipped_gap -= 1, &[("negative_count", FAILURE), ("equation", FAILURE)]);
    check(
        |e| (entry(e).next_offset, entry(e).skipped_gap) = (25, 10),
        &[("beyond_topic", FAILURE)],
    );
    check(
        |e| e.readings.as_mut().unwrap().get_mut(&1).unwrap().low = 16,
        &[("out_of_range", FAILURE)],
    );
    check(
        |e| e.readings.as_mut().unwrap().retain(|p, _| *p != 1),
        &[("no_such_partition", FAILURE)],
    );
    // The topic was recreated without the partition.
    let anew = |e: &mut Evidence, base| {
        e.mysql.gaps.push(TopicGap { partition: 1, base, ..TopicGap::default() });
        e.readings.as_mut().unwrap().retain(|p, _| *p != 1);
    };
    check(|e| anew(e, 15), &[("no_such_partition", NOTE), ("topic_made_anew", NOTE)]);
    check(|e| anew(e, 14), &[("no_such_partition", FAILURE), ("topic_made_anew", NOTE)]);
    check(
        |e| {
            anew(e, 15);
            e.readings = None;
        },
        &[
            ("no_such_partition", FAILURE),
            ("no_such_partition", FAILURE),
            ("topic_made_anew", NOTE),
        ],
    );
    check(
        |e| e.readings.as_mut().unwrap().extend([(2, Watermarks { low: 0, high: 4 })]),
        &[("unclaimed", NOTE)],
    );
    let passed = |e: &mut Evidence| (entry(e).next_offset, entry(e).processed) = (19, 4);
    check(passed, &[("processed", FAILURE)]);
    check(
        |e| {
            passed(e);
            *entry(e) = entry(e).moved_to(15);
        },
        &[("processed", NOTE)],
    );
    check(
        |e| (e.readings, e.other_topic) = (None, Some("made anew".into())),
        &[("other_topic", FAILURE)],
    );
    check(
        |e| e.mysql.gaps.push(TopicGap { partition: 1, ..TopicGap::default() }),
        &[("topic_made_anew", NOTE)],
    );
    check(|e| (e.mysql, e.readings) = Default::default(), &[("no_ledger", FAILURE)]);
}

#[test]
fn dead_letters_are_counted_once_and_only_where_the_ledger_has_been() {
    check(|e| drop(e.dead_letters.found.remove(&(1, 7))), &[("dead_letters", FAILURE)]);
    check(|e| drop(e.dead_letters.found.insert((1, 8), None)), &[("dead_letters", FAILURE)]);
    check(|e| drop(e.dead_letters.found.insert((1, 15), None)), &[("letters_in_flight", NOTE)]);
    check(
        |e| {
            e.dead_letters.found.insert((1, 8), None);
            e.dead_letters.stored.insert((1, 8));
        },
        &[("letters_stored", NOTE)],
    );
    // As before, and the row was erased.
    check(
        |e| {
            e.dead_letters.found.insert((1, 8), None);
            e.mysql.gone.insert(1, row_count(1, 1));
        },
        &[],
    );
    check(
        |e| {
            e.dead_letters.found.clear();
            e.dead_letters.expired.insert(1);
        },
        &[("letters_expired", NOTE)],
    );
    check(
        |e| {
            e.dead_letters.found.insert((1, 8), None);
            e.dead_letters.expired.insert(1);
        },
        &[("dead_letters", FAILURE), ("letters_expired", NOTE)],
    );
    // A purge deletes the topic's beginning, as retention does, and records what it deletes.
    let purge = |e: &mut Evidence| {
        e.dead_letters.purged.extend(e.dead_letters.found.keys().copied());
        e.dead_letters.found.clear();
        e.dead_letters.expired.insert(1);
    };
    check(purge, &[]);
    check(
        |e| {
            purge(e);
            *entry(e) = LedgerRow { dead_lettered: 2, merged: 2, ..*entry(e) };
            e.mysql.expected.get_mut(&1).unwrap().merged = 2;
            e.mysql.rows.get_mut(&1).unwrap().deliveries = 8;
        },
        &[("letters_expired", NOTE)],
    );
    // The purged letter was written before a crash, and its reading was stored after all.
    check(
        |e| {
            purge(e);
            *entry(e) = LedgerRow { dead_lettered: 0, merged: 4, ..*entry(e) };
            e.mysql.expected.get_mut(&1).unwrap().merged = 4;
            e.mysql.rows.get_mut(&1).unwrap().deliveries = 10;
        },
        &[("letters_expired", NOTE)],
    );
    // A rewind over the dead letter: the ledger counts it twice, and the topic has it once.
    check(
        |e| {
            *entry(e) = entry(e).moved_to(7);
            *entry(e) = LedgerRow { next_offset: 15, dead_lettered: 2, merged: 10, ..*entry(e) };
            e.mysql.expected.get_mut(&1).unwrap().merged = 10;
            e.mysql.rows.get_mut(&1).unwrap().deliveries = 16;
        },
        &[],
    );
}

#[test]
fn dead_letters_of_a_former_topic_may_be_lost_with_it() {
    // Without any of them Kafka was lost. Else they are compared as ever.
    let anew = |e: &mut Evidence| {
        e.mysql.gaps.push(TopicGap { partition: 1, base: 10, ..TopicGap::default() });
    };
    check(
        |e| {
            anew(e);
            e.dead_letters.found.clear();
        },
        &[("letters_expired", NOTE), ("topic_made_anew", NOTE)],
    );
    check(
        |e| {
            anew(e);
            e.dead_letters.found.insert((1, 12), None);
        },
        &[("dead_letters", FAILURE), ("topic_made_anew", NOTE)],
    );
}

#[test]
fn rows_are_held_against_the_counts() {
    let rows = |e: &mut Evidence, rows, deliveries| {
        e.mysql.rows.insert(1, row_count(rows, deliveries));
    };
    check(|e| rows(e, 5, 8), &[("rows", FAILURE), ("deliveries", FAILURE)]);
    check(|e| rows(e, 6, 10), &[("deliveries", FAILURE)]);
    check(|e| e.mysql.id_zero.rows = 3, &[("other_rows", NOTE)]);
    check(|e| e.mysql.id_zero = RowCount::default(), &[("rows", FAILURE), ("deliveries", FAILURE)]);
    check(|e| e.mysql.others = true, &[("other_rows", NOTE)]);
    // The first record of partition 0 was erased, and is stored again after a rewind.
    let again = |e: &mut Evidence, erased| {
        let zero = LedgerRow { next_offset: 2, stored: 3, rewound: 1, ..LedgerRow::default() };
        e.mysql.ledger.insert(0, zero);
        e.mysql.expected.get_mut(&0).unwrap().stored = 3;
        e.mysql.id_zero = row_count(2, 2);
        e.mysql.erased.zeros = erased;
    };
    check(|e| again(e, 1), &[]);
    check(|e| again(e, 0), &[("rows", FAILURE), ("other_rows", NOTE)]);
}

#[test]
fn deliveries_of_moved_devices_cancel_each_other_out_and_a_finding_names_the_partitions() {
    // Two deliveries of partition 1 have merged into the row of partition 0.
    let moved = |e: &mut Evidence| {
        e.mysql.id_zero.deliveries += 2;
        e.mysql.rows.insert(1, row_count(6, 7));
    };
    check(moved, &[]);
    let mut evidence = healthy();
    moved(&mut evidence);
    evidence.mysql.rows.insert(1, row_count(6, 6));
    let findings = check_evidence(&evidence);
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!((finding.code, finding.partition), ("deliveries", None));
    assert_eq!(
        finding.message,
        "11 deliveries counted, 10 found in rows (partition 0: +2, partition 1: -3)"
    );
}

#[test]
fn the_report_reads_the_same_as_table_and_as_json() {
    let mut evidence = healthy();
    entry(&mut evidence).stored += 1;
    let report = AuditReport::new("worker", "health.readings", &evidence, Some(4), None);
    assert!(!report.holds);
    let mut table = Vec::new();
    super::print::print(&report, &mut table).unwrap();
    let table = String::from_utf8(table).unwrap();
    assert!(
        table.contains("FAILURE equation partition 1: 10 offsets passed, 11 explained"),
        "{table}"
    );
    assert!(table.ends_with("does not hold\n"), "{table}");
    let total = table.lines().find(|line| line.contains("total")).unwrap();
    let cells: Vec<_> = total.split_whitespace().collect();
    let expected =
        ["total", "5", "22", "5", "17", "9", "3", "1", "0", "0", "13", "-1", "5", "1", "8"];
    assert_eq!(cells, expected);
    let mut json = Vec::new();
    print_found(true, &report, &mut json, super::print::print).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["partitions"][1]["difference"], -1);
    assert_eq!(json["totals"]["lag"], 5);
    assert_eq!(json["findings"][0]["code"], "equation");
}
