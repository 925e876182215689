//! Prints the report on standard output: tables for people, at most 110 columns wide, or one JSON
//! document.

use std::collections::BTreeMap;
use std::io::{self, Write};

use ljwx_service::text::Align;

use super::aggregate::RuleSummary;
use super::assemble::AlertReport;
use crate::commands::layout::table;
use crate::commands::print_json;
use crate::mysql::suppressed_counts::{COOLDOWN, FLAPPING, SILENCED};
use crate::notify::wechat::escape::shortened;
use crate::rules::rule::TEMPLATE_TENANT;

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

/// Reasons for a suppressed notification that have a column.
const REASONS: [&str; 3] = [COOLDOWN, FLAPPING, SILENCED];

/// Names of the columns about failures.
const FAILURES: [&str; 6] = ["rule", "tenant", "channel", "outcome", "errcode", "count"];

/// Prints the report.
pub fn print(report: &AlertReport, json: bool, out: &mut impl Write) -> io::Result<()> {
    if json {
        return print_json(report, out);
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
    table(EPISODES, sides, lines.iter().map(episodes), out)?;
    writeln!(
        out,
        "lasted: median of those that ended; e: from the event to the first delivery, r: from the \
         recording\n"
    )?;
    let sides = [Align::Right; NOTIFICATIONS.len()];
    table(NOTIFICATIONS, sides, lines.iter().map(notifications), out)?;
    writeln!(out, "cooldown to other: not sent, and why; flaps: devices that began to flap")?;
    let failures: Vec<_> = lines.iter().flat_map(failures).collect();
    if !failures.is_empty() {
        writeln!(out)?;
        let (left, right) = (Align::Left, Align::Right);
        table(FAILURES, [right, right, left, left, right, right], failures, out)?;
    }
    Ok(())
}

/// Formats a value, or its absence.
fn or_dash<T>(value: Option<T>, text: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), text)
}

fn episodes(line: &RuleSummary) -> [String; EPISODES.len()] {
    let time = |milliseconds| or_dash(milliseconds, short);
    [
        line.rule_id.to_string(),
        line.customer_id.to_string(),
        shortened(&line.alert_type, ALERT_CHARS_MAX),
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
    let other: i64 =
        line.suppressed.values().sum::<i64>() - REASONS.map(reason).iter().sum::<i64>();
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
        or_dash(line.flaps, |flaps| flaps.to_string()),
    ]
}

/// Returns the notifications that reached no recipient, and failed attempts.
fn failures(line: &RuleSummary) -> Vec<[String; FAILURES.len()]> {
    let row = |channel: &str, outcome: &str, errcode: Option<i64>, count: i64| {
        [
            line.rule_id.to_string(),
            line.customer_id.to_string(),
            channel.to_owned(),
            outcome.replace('_', " "),
            or_dash(errcode, |errcode| errcode.to_string()),
            count.to_string(),
        ]
    };
    let went_wrong = |outcome: &str| {
        matches!(outcome, "failed" | "dropped" | "refused" | "unrouted" | "attempt_failed")
    };
    let sent = line.notifications.iter().filter(|one| went_wrong(&one.outcome));
    let sent = sent.map(|one| row(&one.channel, &one.outcome, one.errcode, one.notifications));
    let nobody = line.suppressed.iter().filter(|(reason, _)| !REASONS.contains(&reason.as_str()));
    sent.chain(nobody.map(|(reason, count)| row("-", reason, None, *count))).collect()
}

fn findings(report: &AlertReport, out: &mut impl Write) -> io::Result<()> {
    if !(report.never_fired.is_empty() && report.all_day.is_empty() && report.notes.is_empty()) {
        writeln!(out)?;
    }
    for rule in &report.all_day {
        let more = (rule.devices > 1).then(|| format!(", {} such devices", rule.devices));
        writeln!(
            out,
            "fires all day: rule {}, tenant {}: device {} open {:.0} % of the time, {} episodes on \
             its worst day{}",
            rule.rule_id,
            rule.customer_id,
            rule.device_sn,
            rule.open_share * 100.0,
            rule.episodes_a_day,
            more.unwrap_or_default()
        )?;
    }
    for rule in &report.never_fired {
        let whose = match rule.customer_id {
            TEMPLATE_TENANT => "of all tenants".to_owned(),
            customer_id => format!("of tenant {customer_id}"),
        };
        writeln!(out, "never fired: rule {} {whose} ({})", rule.rule_id, rule.alert_type)?;
    }
    for note in &report.notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(())
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
