//! Prints the report to standard output: text for people, or one JSON document.

use std::io::{self, Write};

use super::answers::{
    AlertRelation, AlertSearch, FoundAlert, FoundRecord, GroupProgress, HashState, KeptSearch,
    Part, Position, RecordSearch, RecordTraceId, StoredReading,
};
use super::report::WhereReport;

/// Prints the report.
pub fn print(report: &WhereReport, json: bool, out: &mut impl Write) -> io::Result<()> {
    if json {
        serde_json::to_writer_pretty(&mut *out, report)?;
        return writeln!(out);
    }
    writeln!(out, "reading of {} at {}\n", report.device_sn, report.timestamp)?;
    part("readings topic", &report.readings, readings, out)?;
    part("rejects topic", &report.rejects, kept, out)?;
    part("dead letters", &report.dead_letters, kept, out)?;
    part("row", &report.row, row, out)?;
    let group = format!("group {}", report.group);
    part(&group, &report.group_progress, |progress, out| group_progress(progress, out), out)?;
    part("redis", &report.redis, hash, out)?;
    part("alerts", &report.alerts, alerts, out)?;
    traces(&report.traces, out)
}

/// Prints the answer of a part, or the reason why it is unknown.
fn part<T, W: Write>(
    name: &str,
    part: &Part<T>,
    known: impl FnOnce(&T, &mut W) -> io::Result<()>,
    out: &mut W,
) -> io::Result<()> {
    write!(out, "{name}: ")?;
    match part {
        Part::Known(answer) => known(answer, out),
        Part::Unknown(reason) => writeln!(out, "unknown: {reason}"),
    }
}

fn readings(search: &RecordSearch, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", count(search.records.len(), "record"))?;
    for record in &search.records {
        writeln!(out, "  {}", record_line(record))?;
    }
    for range in &search.searched {
        let (partition, from, to) = (range.partition, range.from, range.to);
        write!(out, "  searched partition {partition} offsets {from}..{to}")?;
        if range.low > 0 {
            write!(out, "; retention has deleted those before {}", range.low)?;
        }
        writeln!(out)?;
    }
    stopped(search.stopped.as_deref(), out)
}

fn record_line(record: &FoundRecord) -> String {
    let mut line = format!("{}  received {}", place(record.position), record.received_at);
    line.push_str(&trace(record.trace.as_ref()));
    if let Some(replay) = &record.replay {
        line.push_str(&match replay.first {
            Some(first) => format!("  replay {} of {}", replay.count, place(first)),
            None => format!("  replay {} of a reject", replay.count),
        });
    }
    if record.ahead_of_clock {
        line.push_str("  ahead of the clock: not in Redis, documents or alerts");
    }
    if !record.warnings.is_empty() {
        line.push_str(&format!("  warnings: {}", record.warnings.join(", ")));
    }
    line
}

fn kept(search: &KeptSearch, out: &mut impl Write) -> io::Result<()> {
    let certain = search.matches.iter().filter(|found| found.certain).count();
    let possible = search.matches.len() - certain;
    write!(out, "{certain} of this reading")?;
    if possible > 0 {
        write!(out, ", {possible} of the device without a readable time")?;
    }
    writeln!(out)?;
    for found in &search.matches {
        let certain = if found.certain { "" } else { "perhaps  " };
        let code = found.code.as_ref().map(|code| format!(" {code}")).unwrap_or_default();
        let source = found.source.map(|source| format!("  delivery {}", place(source)));
        writeln!(
            out,
            "  {}  {certain}{}{code}  {}{}{}  {}",
            place(found.position),
            found.class,
            found.kept_at,
            source.unwrap_or_default(),
            trace(found.trace.as_ref()),
            found.message
        )?;
    }
    if search.omitted > 0 {
        writeln!(out, "  {} more are not listed", search.omitted)?;
    }
    if search.expired {
        writeln!(out, "  the oldest records are deleted: an older one is unknown")?;
    }
    stopped(search.stopped.as_deref(), out)
}

fn row(row: &Option<StoredReading>, out: &mut impl Write) -> io::Result<()> {
    let Some(row) = row else { return writeln!(out, "none") };
    match (row.first, row.latest) {
        (Some(first), Some(latest)) => write!(
            out,
            "stored from {}, last delivery {}, merged from {}",
            place(first),
            place(latest),
            deliveries(row.deliveries)
        )?,
        _ => write!(out, "written by another program, id {}", row.id)?,
    }
    writeln!(out, ", created {}, updated {}", row.create_time, row.update_time)?;
    let id = |id: Option<i64>| id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    writeln!(
        out,
        "  user {}, organisation {}, tenant {}",
        id(row.user_id),
        id(row.org_id),
        id(row.customer_id)
    )?;
    for document in &row.documents {
        let source = document.source.map(|source| format!(" from {}", place(source)));
        let source = source.unwrap_or_default();
        writeln!(out, "  document {} in {}{source}", document.column, document.table)?;
    }
    Ok(())
}

fn group_progress(progress: &[GroupProgress], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", count(progress.len(), "partition"))?;
    for GroupProgress { partition, next_offset, waiting } in progress {
        let stands = match next_offset {
            Some(next) => format!("the group stands at {next}"),
            None => "no worker has claimed the partition".to_owned(),
        };
        let waiting: Vec<String> = waiting.iter().map(ToString::to_string).collect();
        if waiting.is_empty() {
            writeln!(out, "  partition {partition}: {stands}")?;
        } else {
            let waiting = waiting.join(", ");
            writeln!(out, "  partition {partition}: offset {waiting} waits: {stands}")?;
        }
    }
    Ok(())
}

fn hash(state: &HashState, out: &mut impl Write) -> io::Result<()> {
    match state {
        HashState::This => writeln!(out, "the hash shows this reading"),
        HashState::Newer { timestamp } => {
            writeln!(out, "the hash shows a newer reading, of {timestamp}")
        }
        HashState::Older { timestamp } => {
            writeln!(out, "the hash shows an older reading, of {timestamp}")
        }
        HashState::Missing => writeln!(out, "the device has no hash"),
        HashState::NotAsked => writeln!(out, "not asked (--no-redis)"),
    }
}

fn alerts(search: &AlertSearch, out: &mut impl Write) -> io::Result<()> {
    if !search.installed {
        return writeln!(out, "no alerter is installed");
    }
    let changed = search.alerts.iter().filter(|alert| alert.is_changed_by_reading()).count();
    if changed == 0 {
        writeln!(out, "no alert was opened or changed at this time")?;
    } else {
        writeln!(out, "{} opened or changed at this time", count(changed, "alert"))?;
    }
    for alert in &search.alerts {
        print_alert(alert, out)?;
    }
    if search.cut {
        writeln!(out, "  there are more alerts or notifications, which were not read")?;
    }
    Ok(())
}

fn print_alert(alert: &FoundAlert, out: &mut impl Write) -> io::Result<()> {
    let relation = match alert.relation {
        AlertRelation::Opened => "opened at this time",
        AlertRelation::Resolved => "resolved at this time",
        AlertRelation::Open => "was open",
    };
    let end = alert.recovered_at.as_ref().map(|end| format!(", resolved {end}"));
    writeln!(
        out,
        "  alert {} {relation}: rule {} {}, {}, {}, opened {}{}",
        alert.id,
        alert.rule_id,
        alert.alert_type,
        alert.severity,
        alert.status,
        alert.opened_at,
        end.unwrap_or_default()
    )?;
    for one in alert.notifications.iter().filter(|one| one.at_reading) {
        let finished = one.finished_at.as_ref().map(|at| format!(" {at}")).unwrap_or_default();
        let error = one.last_error.as_ref().map(|error| format!("  {error}"));
        writeln!(
            out,
            "    notification {} of {} to {}: {}{finished}, {} attempt(s){}{}",
            one.id,
            one.transition,
            one.recipient,
            one.state,
            one.attempts,
            trace(one.trace.as_ref()),
            error.unwrap_or_default()
        )?;
    }
    Ok(())
}

fn traces(traces: &[RecordTraceId], out: &mut impl Write) -> io::Result<()> {
    if traces.is_empty() {
        return writeln!(out, "traces: none");
    }
    writeln!(out, "traces: open them in Jaeger with Lookup by Trace ID")?;
    for found in traces {
        let note = if found.sampled { "" } else { "  not sampled: Jaeger has few spans or none" };
        writeln!(out, "  {}{note}", found.trace_id)?;
    }
    Ok(())
}

fn stopped(reason: Option<&str>, out: &mut impl Write) -> io::Result<()> {
    match reason {
        Some(reason) => writeln!(out, "  unknown: the search ended early: {reason}"),
        None => Ok(()),
    }
}

fn place(position: Position) -> String {
    format!("{}/{}", position.partition, position.offset)
}

fn trace(trace: Option<&RecordTraceId>) -> String {
    trace.map(|trace| format!("  trace {}", trace.trace_id)).unwrap_or_default()
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn deliveries(number: i64) -> String {
    if number == 1 { "1 delivery".to_owned() } else { format!("{number} deliveries") }
}

#[cfg(test)]
#[path = "print_tests.rs"]
mod tests;
