//! The report of `alerter backtest`, as tables for people or as one JSON document.

use std::collections::HashMap;
use std::io::{self, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ljwx_reading::wall_text;
use ljwx_service::text::{Align, table, table_of};
use serde::Serialize;

use super::compare::{ComparisonResult, Difference, EpisodeGroup, RuleTotals};
use super::trial::RecordCounts;
use crate::rules::index::RuleSet;
use crate::rules::severity::Severity;

/// The report of a backtest.
#[derive(Debug, Serialize)]
pub struct BacktestReport {
    /// Start of the period by time of receipt, on the devices' wall clock.
    pub from: String,
    /// End of the period, exclusive.
    pub to: String,
    /// Name of set a.
    pub a: String,
    /// Name of set b.
    pub b: String,
    /// Counts of records.
    pub records: RecordCounts,
    /// Rules with an episode under either set.
    pub rules: Vec<RuleLine>,
    /// Whether the rules' counts of devices are too low, because there were too many.
    pub too_many_devices: bool,
    /// Differences between the sets.
    pub differences: Differences,
}

/// One rule.
#[derive(Debug, Serialize)]
pub struct RuleLine {
    /// The rule's id.
    pub id: i64,
    /// The platform's word for the kind of alert.
    pub alert_type: String,
    /// Totals under set a.
    pub a: RuleCounts,
    /// Totals under set b.
    pub b: RuleCounts,
}

/// The totals of a rule.
#[derive(Debug, Default, Serialize)]
pub struct RuleCounts {
    /// Episodes.
    pub episodes: u64,
    /// Devices.
    pub devices: u64,
    /// Notifications, each counted once whatever the number of recipients.
    pub notifications: u64,
}

/// Differences between the sets.
#[derive(Debug, Serialize)]
pub struct Differences {
    /// Groups of episodes of set a alone.
    pub only_a: u64,
    /// Groups of episodes of set b alone.
    pub only_b: u64,
    /// Groups under both sets, with different times, severities or notifications.
    pub otherwise: u64,
    /// The first of the differences.
    pub listed: Vec<DifferenceLine>,
    /// Number of differences that are not listed.
    pub unlisted: u64,
}

/// A device on which the two sets give different results for a rule.
#[derive(Debug, Serialize)]
pub struct DifferenceLine {
    /// The device.
    pub device_sn: String,
    /// The rule's id.
    pub rule_id: i64,
    /// Episodes under set a.
    pub a: Option<EpisodeGroupLine>,
    /// Episodes under set b.
    pub b: Option<EpisodeGroupLine>,
}

/// The episodes of a rule on a device.
#[derive(Debug, Serialize)]
pub struct EpisodeGroupLine {
    /// Number of episodes. Several if they overlap one episode of the other set.
    pub episodes: u32,
    /// Opening of the first episode.
    pub opened_at: String,
    /// End of the last episode, if it ended.
    pub ended_at: Option<String>,
    /// The highest severity.
    pub severity: Severity,
    /// Notifications, each counted once whatever the number of recipients.
    pub notifications: u32,
}

/// The subject of a report.
#[derive(Debug)]
pub struct BacktestSubject<'a> {
    /// Start and end, in milliseconds since 1970.
    pub times: [i64; 2],
    /// Names of the sets.
    pub names: [String; 2],
    /// The sets.
    pub rules: [&'a RuleSet; 2],
    /// The devices' zone.
    pub zone: &'a TimeZone,
}

impl BacktestReport {
    /// Builds the report of a comparison.
    pub fn new(
        subject: &BacktestSubject<'_>,
        records: RecordCounts,
        findings: ComparisonResult,
    ) -> Self {
        let all = subject.rules.iter().flat_map(|rules| rules.all());
        let types: HashMap<i64, &str> = all.map(|rule| (rule.id, rule.alert_type())).collect();
        let zone = subject.zone;
        let unlisted = findings.unlisted();
        let rules = findings.rules.iter().map(|(id, [a, b])| RuleLine {
            id: *id,
            alert_type: types.get(id).copied().unwrap_or_default().to_owned(),
            a: counted(a),
            b: counted(b),
        });
        let [only_a, only_b] = findings.only;
        let line = |difference: &Difference| difference_line(difference, zone);
        let [a, b] = subject.names.clone();
        let [from, to] = subject.times.map(|at| wall(at, zone));
        Self {
            from,
            to,
            a,
            b,
            records,
            rules: rules.collect(),
            too_many_devices: findings.too_many_devices,
            differences: Differences {
                only_a,
                only_b,
                otherwise: findings.other,
                listed: findings.listed.iter().map(line).collect(),
                unlisted,
            },
        }
    }
}

fn counted(count: &RuleTotals) -> RuleCounts {
    let RuleTotals { episodes, devices, notified } = *count;
    RuleCounts { episodes, devices, notifications: notified }
}

fn difference_line(difference: &Difference, zone: &TimeZone) -> DifferenceLine {
    let course = |course: EpisodeGroup| EpisodeGroupLine {
        episodes: course.episodes,
        opened_at: wall(course.opened_at, zone),
        ended_at: course.ended_at.map(|at| wall(at, zone)),
        severity: course.severity,
        notifications: course.notified,
    };
    let [a, b] = difference.groups.map(|side| side.map(course));
    let device_sn = difference.device_sn.to_string();
    DifferenceLine { device_sn, rule_id: difference.rule_id, a, b }
}

fn wall(at_ms: i64, zone: &TimeZone) -> String {
    let at = Timestamp::from_millisecond(at_ms);
    at.map_or_else(|_| "?".to_owned(), |at| wall_text(zone.to_datetime(at)))
}

/// Prints the report as tables.
pub fn print(report: &BacktestReport, out: &mut impl Write) -> io::Result<()> {
    let RecordCounts { read, others, undecodable, judged, late, ahead } = report.records;
    writeln!(out, "received from {} to {}", report.from, report.to)?;
    writeln!(
        out,
        "{read} records: {judged} judged, {late} late, {ahead} ahead of the clock, {undecodable} \
         undecodable, {others} of others"
    )?;
    writeln!(out, "A: {}\nB: {}\n", report.a, report.b)?;
    rules(report, out)?;
    if report.too_many_devices {
        writeln!(out, "too many devices to tell them apart: their counts are too low")?;
    }
    let Differences { only_a, only_b, otherwise, listed, unlisted } = &report.differences;
    let all = only_a + only_b + otherwise;
    writeln!(
        out,
        "\n{all} differences: {only_a} only under A, {only_b} only under B, {otherwise} under both \
         with other times, severities or notifications"
    )?;
    if !listed.is_empty() {
        writeln!(out)?;
        differences(listed, out)?;
    }
    if *unlisted > 0 {
        writeln!(out, "{unlisted} more are not listed")?;
    }
    writeln!(out, "\nnothing was written and nobody was told")
}

fn rules(report: &BacktestReport, out: &mut impl Write) -> io::Result<()> {
    let heads = ["rule", "type", "A episodes", "devices", "told", "B episodes", "devices", "told"];
    let mut rows = vec![heads.map(str::to_owned)];
    let mut totals = [0; 4];
    for line in &report.rules {
        let (a, b) = (&line.a, &line.b);
        let sums = [a.episodes, a.notifications, b.episodes, b.notifications];
        totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        let numbers =
            [a.episodes, a.devices, a.notifications, b.episodes, b.devices, b.notifications];
        let [ae, ad, at, be, bd, bt] = numbers.map(|number| number.to_string());
        rows.push([line.id.to_string(), line.alert_type.clone(), ae, ad, at, be, bd, bt]);
    }
    let [ae, at, be, bt] = totals.map(|total: u64| total.to_string());
    // A device may occur under several rules, so the counts of devices do not add up.
    let none = String::new;
    rows.push(["total".into(), none(), ae, none(), at, be, none(), bt]);
    let mut sides = [Align::Right; 8];
    sides[1] = Align::Left;
    table_of(sides, &rows, out)
}

fn differences(listed: &[DifferenceLine], out: &mut impl Write) -> io::Result<()> {
    let heads = ["device", "rule", "set", "opened", "ended", "severity", "episodes", "told"];
    let mut rows = vec![heads.map(str::to_owned)];
    for difference in listed {
        let groups = [("A", &difference.a), ("B", &difference.b)];
        for (set, course) in groups.into_iter().filter_map(|(set, one)| Some((set, one.as_ref()?)))
        {
            rows.push([
                difference.device_sn.clone(),
                difference.rule_id.to_string(),
                set.to_owned(),
                course.opened_at.clone(),
                course.ended_at.clone().unwrap_or_else(|| "open".to_owned()),
                course.severity.as_str().to_owned(),
                course.episodes.to_string(),
                course.notifications.to_string(),
            ]);
        }
    }
    table(&rows, out)
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
