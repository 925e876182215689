//! Prints the report for people: a table, and the findings.

use std::io::{self, Write};

use ljwx_service::text::{Align, table_of};

use super::finding::FindingLevel;
use super::reading_search::ReadingSearch;
use super::report::{AuditReport, PartitionTotals};

/// Names of the table's columns.
const COLUMNS: [&str; 15] = [
    "partition",
    "low",
    "high",
    "first",
    "next",
    "stored",
    "merged",
    "dead",
    "gap",
    "rewound",
    "explained",
    "difference",
    "lag",
    "letters",
    "rows",
];

/// Prints the report.
pub fn print(report: &AuditReport, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "group {} on {}\n", report.group, report.topic)?;
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    for line in &report.partitions {
        rows.push(cells(&line.entry.partition.to_string(), line));
    }
    rows.push(cells("total", &report.totals));
    table_of([Align::Right; COLUMNS.len()], &rows, out)?;
    let rejects = report.reject_records.map_or("no topic".into(), |count| count.to_string());
    writeln!(out, "\ndead-letter records {}, rejects {rejects}", report.dead_letter_records)?;
    if let Some(search) = &report.readings {
        readings(search, out)?;
    }
    for finding in &report.findings {
        let level = if finding.level == FindingLevel::Failure { "FAILURE" } else { "note" };
        let place = finding.partition.map(|partition| format!(" partition {partition}"));
        let place = place.unwrap_or_default();
        writeln!(out, "{level} {}{place}: {}", finding.code, finding.message)?;
        writeln!(out, "    {}", finding.remedy)?;
    }
    writeln!(out, "{}", if report.holds { "holds" } else { "does not hold" })
}

fn cells(name: &str, line: &PartitionTotals) -> [String; COLUMNS.len()] {
    let entry = &line.entry;
    let numbers = [
        line.low,
        line.high,
        entry.first_offset,
        entry.next_offset,
        entry.stored,
        entry.merged,
        entry.dead_lettered,
        entry.skipped_gap,
        entry.rewound,
        line.explained,
        line.difference,
        line.lag,
        line.letters,
        line.rows,
    ];
    let mut cells = std::array::from_fn(|_| String::new());
    cells[0] = name.to_owned();
    for (cell, number) in cells[1..].iter_mut().zip(numbers) {
        *cell = number.to_string();
    }
    cells
}

fn readings(search: &ReadingSearch, out: &mut impl Write) -> io::Result<()> {
    let ReadingSearch { records, stored, dead_lettered, unknown, missing, named, .. } = search;
    writeln!(
        out,
        "{records} readings looked for: {stored} stored, {dead_lettered} dead-lettered, \
         {unknown} unknown, {missing} missing"
    )?;
    for reading in named {
        let identity = match (&reading.device_sn, &reading.timestamp) {
            (Some(device_sn), Some(timestamp)) => format!("{device_sn} at {timestamp}"),
            _ => "undecodable".to_owned(),
        };
        writeln!(
            out,
            "    missing: partition {} offset {}: {identity}",
            reading.partition, reading.offset
        )?;
    }
    Ok(())
}
