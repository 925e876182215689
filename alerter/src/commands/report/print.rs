//! Prints the report as tables for people, at most 110 columns wide.

use std::io::{self, Write};

use ljwx_service::text::Align::{Left, Right};
use ljwx_service::text::{Column, table};

use super::aggregate::{NotificationGroup, RuleSummary};
use super::assemble::AlertReport;
use crate::mysql::suppressed_counts::{COOLDOWN, FLAPPING, SILENCED};
use crate::notify::wechat::escape::shortened;
use crate::rules::TEMPLATE_TENANT;

/// Longest kind of alert that is printed whole, in characters.
const ALERT_CHARS_MAX: usize = 20;

/// Prints the report.
pub fn print(report: &AlertReport, out: &mut impl Write) -> io::Result<()> {
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
    let episodes: [Column<'_, RuleSummary>; 12] = [
        ("rule", Right, &|line| line.rule_id.to_string()),
        ("tenant", Right, &|line| line.customer_id.to_string()),
        ("alert", Left, &|line| shortened(&line.alert_type, ALERT_CHARS_MAX)),
        ("opened", Right, &|line| line.episodes.to_string()),
        ("notified", Right, &|line| line.notified.to_string()),
        ("open", Right, &|line| line.open.to_string()),
        ("ended", Right, &|line| line.ended.to_string()),
        ("lasted", Right, &|line| or_dash(line.lasted_p50_ms, short)),
        ("e.p50", Right, &|line| or_dash(line.event_to_delivery_p50_ms, short)),
        ("e.p95", Right, &|line| or_dash(line.event_to_delivery_p95_ms, short)),
        ("r.p50", Right, &|line| or_dash(line.recorded_to_delivery_p50_ms, short)),
        ("r.p95", Right, &|line| or_dash(line.recorded_to_delivery_p95_ms, short)),
    ];
    table(lines, episodes, out)?;
    writeln!(
        out,
        "lasted: median of those that ended; e: from the event to the first delivery, r: from the \
         recording\n"
    )?;
    let notifications: [Column<'_, RuleSummary>; 12] = [
        ("rule", Right, &|line| line.rule_id.to_string()),
        ("tenant", Right, &|line| line.customer_id.to_string()),
        ("sent", Right, &|line| outcome(line, "sent")),
        ("pending", Right, &|line| outcome(line, "pending")),
        ("failed", Right, &|line| outcome(line, "failed")),
        ("dropped", Right, &|line| outcome(line, "dropped")),
        ("in_digest", Right, &|line| outcome(line, "in_digest")),
        ("cooldown", Right, &|line| suppressed(line, |reason| reason == COOLDOWN)),
        ("flapping", Right, &|line| suppressed(line, |reason| reason == FLAPPING)),
        ("silenced", Right, &|line| suppressed(line, |reason| reason == SILENCED)),
        ("other", Right, &|line| suppressed(line, is_other)),
        ("flaps", Right, &|line| or_dash(line.flaps, |flaps| flaps.to_string())),
    ];
    table(lines, notifications, out)?;
    writeln!(out, "cooldown to other: not sent, and why; flaps: devices that began to flap")?;
    let failed: Vec<_> = lines.iter().flat_map(failures).collect();
    if failed.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let failures: [Column<'_, (&RuleSummary, NotificationGroup)>; 6] = [
        ("rule", Right, &|(line, _)| line.rule_id.to_string()),
        ("tenant", Right, &|(line, _)| line.customer_id.to_string()),
        ("channel", Left, &|(_, group)| group.channel.clone()),
        ("outcome", Left, &|(_, group)| group.outcome.replace('_', " ")),
        ("errcode", Right, &|(_, group)| or_dash(group.errcode, |errcode| errcode.to_string())),
        ("count", Right, &|(_, group)| group.notifications.to_string()),
    ];
    table(&failed, failures, out)
}

/// Formats a value, or its absence.
fn or_dash<T>(value: Option<T>, text: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), text)
}

/// Counts the notifications of an outcome.
fn outcome(line: &RuleSummary, outcome: &str) -> String {
    let counted = line.notifications.iter().filter(|one| one.outcome == outcome);
    counted.map(|one| one.notifications).sum::<i64>().to_string()
}

/// Counts the suppressed notifications of some reasons.
fn suppressed(line: &RuleSummary, wanted: impl Fn(&str) -> bool) -> String {
    let counted = line.suppressed.iter().filter(|(reason, _)| wanted(reason));
    counted.map(|(_, count)| count).sum::<i64>().to_string()
}

/// Whether a reason for a suppressed notification has no column of its own.
fn is_other(reason: &str) -> bool {
    ![COOLDOWN, FLAPPING, SILENCED].contains(&reason)
}

/// Returns the notifications that reached no recipient, and failed attempts, each with its line.
fn failures(line: &RuleSummary) -> Vec<(&RuleSummary, NotificationGroup)> {
    let went_wrong = |outcome: &str| {
        matches!(outcome, "failed" | "dropped" | "refused" | "unrouted" | "attempt_failed")
    };
    let failed = line.notifications.iter().filter(|one| went_wrong(&one.outcome)).cloned();
    let nobody = line.suppressed.iter().filter(|(reason, _)| is_other(reason));
    let nobody = nobody.map(|(reason, count)| NotificationGroup {
        channel: "-".to_owned(),
        outcome: reason.clone(),
        errcode: None,
        notifications: *count,
    });
    failed.chain(nobody).map(|group| (line, group)).collect()
}

fn findings(report: &AlertReport, out: &mut impl Write) -> io::Result<()> {
    let mut found = Vec::new();
    for rule in &report.all_day {
        let more = (rule.devices > 1).then(|| format!(", {} such devices", rule.devices));
        found.push(format!(
            "fires all day: rule {}, tenant {}: device {} open {:.0} % of the time, {} episodes on \
             its worst day{}",
            rule.rule_id,
            rule.customer_id,
            rule.device_sn,
            rule.open_share * 100.0,
            rule.episodes_a_day,
            more.unwrap_or_default()
        ));
    }
    for rule in &report.never_fired {
        let whose = match rule.customer_id {
            TEMPLATE_TENANT => "of all tenants".to_owned(),
            customer_id => format!("of tenant {customer_id}"),
        };
        found.push(format!("never fired: rule {} {whose} ({})", rule.rule_id, rule.alert_type));
    }
    found.extend(report.notes.iter().map(|note| format!("note: {note}")));
    if found.is_empty() { Ok(()) } else { writeln!(out, "\n{}", found.join("\n")) }
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
