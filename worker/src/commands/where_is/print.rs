//! Prints the report for people, as text.

use std::io::{self, Write};

use ljwx_service::text::one_line;

use super::answers::{
    AlertRelation, AlertSearch, FoundAlert, FoundNotification, FoundRecord, GroupProgress,
    HashState, KeptMatch, Position, RecordTraceId, StoredReading, TopicMatches,
};
use super::report::WhereReport;
use crate::commands::part::Part;

/// What the text says of a part: the answer in one line, and its details.
type PartText = (String, Vec<String>);

/// Prints the report.
pub fn print(report: &WhereReport, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "reading of {} at {}\n", report.device_sn, report.timestamp)?;
    let readings = part(&report.readings, |search| readings(search, &report.base));
    let group = format!("group {}", report.group);
    for (name, (answer, details)) in [
        ("readings topic", readings),
        ("rejects topic", part(&report.rejects, kept)),
        ("dead letters", part(&report.dead_letters, kept)),
        ("row", part(&report.row, row)),
        (&*group, part(&report.group_progress, |progress| group_progress(progress))),
        ("redis", part(&report.redis, |state| (hash(state), Vec::new()))),
        ("alerts", part(&report.alerts, alerts)),
        ("traces", traces(&report.traces)),
    ] {
        writeln!(out, "{name}: {}", one_line(&answer))?;
        for detail in details {
            writeln!(out, "  {}", one_line(&detail))?;
        }
    }
    Ok(())
}

/// Tells the answer of a part, or the reason why it is unknown.
fn part<T>(part: &Part<T>, known: impl FnOnce(&T) -> PartText) -> PartText {
    match part {
        Part::Known(answer) => known(answer),
        Part::Unknown(reason) => (format!("unknown: {reason}"), Vec::new()),
    }
}

fn readings(search: &TopicMatches<FoundRecord>, base: &Part<i64>) -> PartText {
    let mut details: Vec<String> = search.matches.iter().map(record_line).collect();
    for range in &search.searched {
        let (partition, from, to) = (range.partition, range.from, range.to);
        details.push(format!("searched partition {partition} offsets {from}..{to}"));
    }
    if let Part::Unknown(reason) = base {
        details
            .push(format!("these offsets are Kafka's own: the ledger's base is unknown: {reason}"));
    }
    details.extend(limits(search));
    (count(search.matches.len(), "record"), details)
}

/// Tells what the search of a topic left out.
fn limits<T>(search: &TopicMatches<T>) -> Vec<String> {
    let mut limits = Vec::new();
    if search.omitted > 0 {
        limits.push(format!("{} more are not listed", search.omitted));
    }
    if search.is_cut() {
        limits.push("the oldest records are deleted: an older one is unknown".to_owned());
    }
    if let Some(reason) = &search.stopped {
        limits.push(format!("unknown: the search ended early: {reason}"));
    }
    limits
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

fn kept(search: &TopicMatches<KeptMatch>) -> PartText {
    let certain = search.matches.iter().filter(|found| found.certain).count();
    let possible = search.matches.len() - certain;
    let mut answer = format!("{certain} of this reading");
    if possible > 0 {
        answer.push_str(&format!(", {possible} of the device without a readable time"));
    }
    let mut details: Vec<String> = search.matches.iter().map(kept_line).collect();
    details.extend(limits(search));
    (answer, details)
}

fn kept_line(found: &KeptMatch) -> String {
    let certain = if found.certain { "" } else { "perhaps  " };
    let code = found.code.as_ref().map(|code| format!(" {code}"));
    let source = found.source.map(|source| format!("  delivery {}", place(source)));
    format!(
        "{}  {certain}{}{}  {}{}{}  {}",
        place(found.position),
        found.class,
        code.unwrap_or_default(),
        found.kept_at,
        source.unwrap_or_default(),
        trace(found.trace.as_ref()),
        found.message
    )
}

fn row(row: &Option<StoredReading>) -> PartText {
    let Some(row) = row else { return ("none".to_owned(), Vec::new()) };
    let merged = match row.deliveries {
        1 => "merged from 1 delivery".to_owned(),
        number => format!("merged from {number} deliveries"),
    };
    let origin = match (row.first, row.latest) {
        (Some(first), Some(latest)) => {
            format!("stored from {}, last delivery {}, {merged}", place(first), place(latest))
        }
        (Some(first), None) => format!("stored from {}, a replayed reject, {merged}", place(first)),
        (None, _) => format!("written by another program, id {}", row.id),
    };
    let id = |id: Option<i64>| id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let (user, org, tenant) = (id(row.user_id), id(row.org_id), id(row.customer_id));
    let mut details = vec![format!("user {user}, organisation {org}, tenant {tenant}")];
    for document in &row.documents {
        let source = document.source.map(|source| format!(" from {}", place(source)));
        let source = source.unwrap_or_default();
        details.push(format!("document {} in {}{source}", document.column, document.table));
    }
    (format!("{origin}, created {}, updated {}", row.create_time, row.update_time), details)
}

fn group_progress(progress: &[GroupProgress]) -> PartText {
    let line = |one: &GroupProgress| {
        let stands = match one.next_offset {
            Some(next) => format!("the group stands at {next}"),
            None => "no worker has claimed the partition".to_owned(),
        };
        let waiting: Vec<String> = one.waiting.iter().map(ToString::to_string).collect();
        let waits = if waiting.is_empty() {
            String::new()
        } else {
            format!("offset {} waits: ", waiting.join(", "))
        };
        format!("partition {}: {waits}{stands}", one.partition)
    };
    (count(progress.len(), "partition"), progress.iter().map(line).collect())
}

fn hash(state: &HashState) -> String {
    match state {
        HashState::This => "the hash shows this reading".to_owned(),
        HashState::Newer { timestamp } => format!("the hash shows a newer reading, of {timestamp}"),
        HashState::Older { timestamp } => {
            format!("the hash shows an older reading, of {timestamp}")
        }
        HashState::Missing => "the device has no hash".to_owned(),
        HashState::NotAsked => "not asked: REDIS_URL is not set".to_owned(),
    }
}

fn alerts(search: &AlertSearch) -> PartText {
    let changed = search.alerts.iter().filter(|alert| alert.is_changed_by_reading()).count();
    let answer = match changed {
        0 => "no alert was opened or changed at this time".to_owned(),
        changed => format!("{} opened or changed at this time", count(changed, "alert")),
    };
    let mut details = Vec::new();
    for alert in &search.alerts {
        details.push(alert_line(alert));
        let own = alert.notifications.iter().filter(|one| one.at_reading);
        details.extend(own.map(notification_line));
    }
    if search.cut {
        details.push("there are more alerts or notifications, which were not read".to_owned());
    }
    (answer, details)
}

fn alert_line(alert: &FoundAlert) -> String {
    let relation = match alert.relation {
        AlertRelation::Opened => "opened at this time",
        AlertRelation::Resolved => "resolved at this time",
        AlertRelation::Open => "was open",
    };
    let end = alert.recovered_at.as_ref().map(|end| format!(", resolved {end}"));
    format!(
        "alert {} {relation}: rule {} {}, {}, {}, opened {}{}",
        alert.id,
        alert.rule_id,
        alert.alert_type,
        alert.severity,
        alert.status,
        alert.opened_at,
        end.unwrap_or_default()
    )
}

fn notification_line(one: &FoundNotification) -> String {
    let finished = one.finished_at.as_ref().map(|at| format!(" {at}"));
    let error = one.last_error.as_ref().map(|error| format!("  {error}"));
    format!(
        "  notification {} of {} to {}: {}{}, {} attempt(s){}{}",
        one.id,
        one.transition,
        one.recipient,
        one.state,
        finished.unwrap_or_default(),
        one.attempts,
        trace(one.trace.as_ref()),
        error.unwrap_or_default()
    )
}

fn traces(traces: &[RecordTraceId]) -> PartText {
    if traces.is_empty() {
        return ("none".to_owned(), Vec::new());
    }
    let line = |found: &RecordTraceId| {
        let note = if found.sampled { "" } else { "  not sampled: Jaeger has few spans or none" };
        format!("{}{note}", found.trace_id)
    };
    ("open them in Jaeger with Lookup by Trace ID".to_owned(), traces.iter().map(line).collect())
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

#[cfg(test)]
#[path = "print_tests.rs"]
mod tests;
