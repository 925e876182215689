//! Prints the report on standard output: tables for people, at most 110 columns wide, or one JSON
//! document.

use std::collections::BTreeMap;
use std::io::{self, Write};

use ljwx_service::text::{Align, table_of};

use super::assemble::{AlertReport, RuleSummary};
use crate::mysql::suppressed_counts::{COOLDOWN, FLAPPING, SILENCED};

/// Longest kind of alert that is printed whole, in characters.
const ALERT_CHARS_MAX: usize = 20;

/// Names of the columns about episodes.
const EPISODES: [&str; 12] = [
    "rule", "tenant", "alert", "opened", "told", "open", "ended", "lasted", "e.p50", "e.p95",
    "r.p50", "r.p95",
];

/// Names of the columns about notifications.
const NOTIFICATIONS: [&str; 12] = [
    "rule",
    "tenant",
    "sent",
    "pending",
    "failed",
    "dropped",
    "in_digest",
    "cooldown",
    "flapping",
    "silenced",
    "other",
    "flaps",
];

/// Names of the columns about failures.
const FAILURES: [&str; 6] = ["rule", "tenant", "channel", "outcome", "errcode", "count"];

/// Prints the report.
pub fn print(report: &AlertReport, json: bool, out: &mut impl Write) -> io::Result<()> {
    if json {
        serde_json::to_writer_pretty(&mut *out, report)?;
        return writeln!(out);
    }
    let tenant = report.customer_id.map(|id| format!(", tenant {id}")).unwrap_or_default();
    writeln!(out, "{} to {} ({}){tenant}\n", report.from, report.to, report.time_zone)?;
    if report.lines.is_empty() {
        writeln!(out, "no alert and no notification")?;
    } else {
        tables(&report.lines, out)?;
    }
    findings(report, out)
}

fn tables(lines: &[RuleSummary], out: &mut impl Write) -> io::Result<()> {
    let mut sides = [Align::Right; EPISODES.len()];
    sides[2] = Align::Left;
    table_of(sides, &with_head(EPISODES, lines.iter().map(episodes)), out)?;
    writeln!(
        out,
        "lasted: median of those that ended; e: from the event to the first delivery, r: from the \
         recording\n"
    )?;
    let sides = [Align::Right; NOTIFICATIONS.len()];
    table_of(sides, &with_head(NOTIFICATIONS, lines.iter().map(notifications)), out)?;
    writeln!(out, "cooldown to other: not sent, and why; flaps: devices that began to flap")?;
    let failures: Vec<_> = lines.iter().flat_map(failures).collect();
    if !failures.is_empty() {
        writeln!(out)?;
        let (left, right) = (Align::Left, Align::Right);
        let sides = [right, right, left, left, right, right];
        table_of(sides, &with_head(FAILURES, failures), out)?;
    }
    Ok(())
}

fn with_head<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Vec<[String; N]> {
    std::iter::once(head.map(str::to_owned)).chain(rows).collect()
}

fn episodes(line: &RuleSummary) -> [String; EPISODES.len()] {
    let time = |milliseconds: Option<i64>| milliseconds.map_or_else(|| "-".to_owned(), short);
    [
        line.rule_id.to_string(),
        line.customer_id.to_string(),
        shortened(&line.alert_type),
        line.episodes.to_string(),
        line.told.to_string(),
        line.open.to_string(),
        line.ended.to_string(),
        time(line.lasted_p50_ms),
        time(line.event_to_delivery_p50_ms),
        time(line.event_to_delivery_p95_ms),
        time(line.recorded_to_delivery_p50_ms),
        time(line.recorded_to_delivery_p95_ms),
    ]
}

fn notifications(line: &RuleSummary) -> [String; NOTIFICATIONS.len()] {
    let mut outcomes: BTreeMap<&str, i64> = BTreeMap::new();
    for one in &line.notifications {
        *outcomes.entry(&one.outcome).or_default() += one.notifications;
    }
    let outcome = |name| outcomes.get(name).copied().unwrap_or_default().to_string();
    let reason = |name| line.suppressed.get(name).copied().unwrap_or_default();
    let known = [COOLDOWN, FLAPPING, SILENCED];
    let other: i64 = line.suppressed.values().sum::<i64>() - known.map(reason).iter().sum::<i64>();
    [
        line.rule_id.to_string(),
        line.customer_id.to_string(),
        outcome("sent"),
        outcome("pending"),
        outcome("failed"),
        outcome("dropped"),
        outcome("in_digest"),
        reason(COOLDOWN).to_string(),
        reason(FLAPPING).to_string(),
        reason(SILENCED).to_string(),
        other.to_string(),
        line.flaps.map_or_else(|| "-".to_owned(), |flaps| flaps.to_string()),
    ]
}

/// Returns the notifications that reached no recipient, and failed attempts.
fn failures(line: &RuleSummary) -> impl Iterator<Item = [String; FAILURES.len()]> {
    let went_wrong = |outcome: &str| {
        matches!(outcome, "failed" | "dropped" | "refused" | "unrouted" | "attempt_failed")
    };
    let sent = line.notifications.iter().filter(move |one| went_wrong(&one.outcome));
    let sent = sent.map(|one| {
        let errcode = one.errcode.map_or_else(|| "-".to_owned(), |errcode| errcode.to_string());
        (one.channel.clone(), one.outcome.replace('_', " "), errcode, one.notifications)
    });
    let known = [COOLDOWN, FLAPPING, SILENCED];
    let nobody =
        line.suppressed.iter().filter(move |(reason, _)| !known.contains(&reason.as_str()));
    let nobody = nobody
        .map(|(reason, count)| ("-".to_owned(), reason.replace('_', " "), "-".to_owned(), *count));
    sent.chain(nobody).map(|(channel, outcome, errcode, count)| {
        let (rule_id, customer_id) = (line.rule_id.to_string(), line.customer_id.to_string());
        [rule_id, customer_id, channel, outcome, errcode, count.to_string()]
    })
}

fn findings(report: &AlertReport, out: &mut impl Write) -> io::Result<()> {
    if !(report.never_fired.is_empty() && report.all_day.is_empty() && report.notes.is_empty()) {
        writeln!(out)?;
    }
    for rule in &report.all_day {
        let more = if rule.devices > 1 {
            format!(", {} such devices", rule.devices)
        } else {
            String::new()
        };
        writeln!(
            out,
            "fires all day: rule {}, tenant {}: device {} open {:.0} % of the time, {} episodes on \
             its worst day{more}",
            rule.rule_id,
            rule.customer_id,
            rule.device_sn,
            rule.open_share * 100.0,
            rule.episodes_a_day
        )?;
    }
    for rule in &report.never_fired {
        let whose = if rule.customer_id == 0 {
            "of all tenants".to_owned()
        } else {
            format!("of tenant {}", rule.customer_id)
        };
        writeln!(out, "never fired: rule {} {whose} ({})", rule.rule_id, rule.alert_type)?;
    }
    for note in &report.notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(())
}

fn shortened(alert_type: &str) -> String {
    if alert_type.chars().count() <= ALERT_CHARS_MAX {
        return alert_type.to_owned();
    }
    alert_type.chars().take(ALERT_CHARS_MAX - 1).chain(['…']).collect()
}

/// Formats a time in at most six characters, such as 850ms, 12s, 3m20s, 2h05m, 4d12h.
fn short(milliseconds: i64) -> String {
    let seconds = milliseconds / 1_000;
    match seconds {
        0 => format!("{milliseconds}ms"),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        86_400..8_640_000 => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
#[path = "print_tests.rs"]
mod tests;
