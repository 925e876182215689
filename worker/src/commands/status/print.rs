//! Prints the report for people: tables, and the findings.

use std::io::{self, Write};

use ljwx_ledger::ledger::LedgerRow;
use ljwx_service::text::{Align, one_line, table_of};

use super::report::{DeadLetterCounts, GroupStatus, PartitionStatus, ReplicaStatus, StatusReport};
use crate::commands::part::Part;

/// The columns of a group's table.
const PARTITION_COLUMNS: [&str; 11] = [
    "partition",
    "owner",
    "position",
    "end",
    "lag",
    "waits",
    "unexplained",
    "stored",
    "merged",
    "dead",
    "processed",
];

/// The columns of the replicas' table.
const REPLICA_COLUMNS: [&str; 4] = ["replica", "service", "version", "status"];

/// What stands in a cell without a value.
const NONE: &str = "-";

/// Prints the report.
pub fn print(report: &StatusReport, out: &mut impl Write) -> io::Result<()> {
    for group in &report.groups {
        print_group(group, out)?;
        writeln!(out)?;
    }
    print_replicas(&report.replicas, out)?;
    writeln!(out)?;
    for finding in &report.findings {
        writeln!(out, "NOT WELL {}", one_line(finding))?;
    }
    for unknown in &report.unknown {
        writeln!(out, "UNKNOWN {}", one_line(unknown))?;
    }
    let verdict = match report.well {
        Some(true) => "all is well",
        Some(false) => "not well",
        None => "unknown",
    };
    writeln!(out, "{verdict}")
}

fn print_group(group: &GroupStatus, out: &mut impl Write) -> io::Result<()> {
    let members = match &group.members {
        Part::Known(members) => format!("{} member(s)", members.len()),
        Part::Unknown(_) => "members unknown".to_owned(),
    };
    writeln!(out, "group {} on {}, {members}\n", group.group, group.topic)?;
    if let Part::Known(partitions) = &group.partitions {
        let rows: Vec<_> = std::iter::once(PARTITION_COLUMNS.map(str::to_owned))
            .chain(partitions.iter().map(partition_row))
            .collect();
        let mut sides = [Align::Right; PARTITION_COLUMNS.len()];
        sides[1] = Align::Left;
        table_of(sides, &rows, out)?;
    } else {
        writeln!(out, "partitions unknown")?;
    }
    writeln!(out, "\ndead letters: {}", one_line(&letters(&group.dead_letters)))
}

fn partition_row(one: &PartitionStatus) -> [String; PARTITION_COLUMNS.len()] {
    let none = || NONE.to_owned();
    let count = |of: fn(&LedgerRow) -> i64| {
        one.ledger.as_ref().map_or_else(none, |row| of(row).to_string())
    };
    [
        one.partition.to_string(),
        one.owner.as_deref().map_or_else(none, one_line),
        count(|row| row.next_offset),
        one.ends.map_or_else(none, |ends| ends.high.to_string()),
        one.lag_records.to_string(),
        one.lag_seconds.map_or_else(none, |seconds| format!("{seconds:.1} s")),
        count(LedgerRow::difference),
        count(|row| row.stored),
        count(|row| row.merged),
        count(|row| row.dead_lettered),
        count(|row| row.processed),
    ]
}

fn letters(found: &Part<DeadLetterCounts>) -> String {
    let DeadLetterCounts { classes, is_whole, is_missing } = match found {
        Part::Known(counts) => counts,
        Part::Unknown(reason) => return format!("unknown: {reason}"),
    };
    if *is_missing {
        return "no topic".to_owned();
    }
    if classes.is_empty() {
        return "none".to_owned();
    }
    let classes: Vec<String> =
        classes.iter().map(|(class, count)| format!("{class} {count}")).collect();
    let rest = if *is_whole { "" } else { ", and those that were not read within --timeout" };
    format!("{}{rest}", classes.join(", "))
}

fn print_replicas(replicas: &[ReplicaStatus], out: &mut impl Write) -> io::Result<()> {
    if replicas.is_empty() {
        return writeln!(out, "no replica was asked: --admin names their admin ports");
    }
    let row = |replica: &ReplicaStatus| {
        let [service, version, status] = match &replica.answer {
            Part::Known(answer) => {
                [&answer.service, &answer.version, &answer.status].map(|text| one_line(text))
            }
            Part::Unknown(_) => [NONE, NONE, "no answer"].map(str::to_owned),
        };
        [one_line(&replica.address), service, version, status]
    };
    let rows: Vec<_> = std::iter::once(REPLICA_COLUMNS.map(str::to_owned))
        .chain(replicas.iter().map(row))
        .collect();
    table_of([Align::Left; REPLICA_COLUMNS.len()], &rows, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_are_counted_by_class_and_whether_there_may_be_more() {
        let counts = |is_whole| {
            let classes = [("data".to_owned(), 7), ("tombstone".to_owned(), 1)].into();
            Part::Known(DeadLetterCounts { classes, is_whole, is_missing: false })
        };
        assert_eq!(letters(&counts(true)), "data 7, tombstone 1");
        assert!(letters(&counts(false)).ends_with("not read within --timeout"));
        assert_eq!(letters(&Part::Known(DeadLetterCounts::default())), "none");
        assert_eq!(letters(&Part::Unknown("no topic".into())), "unknown: no topic");
    }

    #[test]
    fn a_partition_that_nobody_has_claimed_shows_what_is_known() {
        let row = partition_row(&PartitionStatus { partition: 3, ..PartitionStatus::default() });
        assert_eq!(row.join(" "), "3 - - - 0 - - - - - -");
    }
}
