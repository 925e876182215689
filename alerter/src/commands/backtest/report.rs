//! The report of `alerter backtest`, as tables for people or as one JSON document.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use ljwx_service::text::{Align, Column, table, table_of};
use serde::Serialize;

use super::compare::{Difference, Differences, EpisodeGroup, RuleTotals};
use super::trial::{BacktestRun, RecordCounts};
use crate::rules::index::RuleSet;

/// A set of rules and its name.
#[derive(Debug)]
pub struct NamedRules {
    /// The name.
    pub name: String,
    /// The set.
    pub set: Arc<RuleSet>,
}

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
    pub a: RuleTotals,
    /// Totals under set b.
    pub b: RuleTotals,
}

impl BacktestReport {
    /// Builds the report of a backtest of two sets, on the readings received from and to these
    /// times.
    pub fn new([from, to]: [String; 2], sets: [NamedRules; 2], trial: BacktestRun) -> Self {
        let all = sets.iter().flat_map(|named| named.set.all());
        let types: HashMap<i64, &str> = all.map(|rule| (rule.id, rule.alert_type())).collect();
        let (records, found) = (trial.records, trial.finish());
        let rules = found.rules.into_iter().map(|(id, [a, b])| {
            let alert_type = types.get(&id).copied().unwrap_or_default().to_owned();
            RuleLine { id, alert_type, a, b }
        });
        let rules = rules.collect();
        let [a, b] = sets.each_ref().map(|named| named.name.clone());
        let (too_many_devices, differences) = (found.too_many_devices, found.differences);
        Self { from, to, a, b, records, rules, too_many_devices, differences }
    }
}

/// Prints the report as tables.
pub fn print(report: &BacktestReport, out: &mut impl Write) -> io::Result<()> {
    let RecordCounts { read, others, undecodable, evaluated, late, ahead } = report.records;
    writeln!(out, "received from {} to {}", report.from, report.to)?;
    writeln!(
        out,
        "{read} records: {evaluated} evaluated, {late} late, {ahead} ahead of the clock, \
         {undecodable} undecodable, {others} of others"
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
    writeln!(out, "\nnothing was written and nobody was notified")
}

fn rules(report: &BacktestReport, out: &mut impl Write) -> io::Result<()> {
    let heads =
        ["rule", "type", "A episodes", "devices", "notified", "B episodes", "devices", "notified"];
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

fn differences(listed: &[Difference], out: &mut impl Write) -> io::Result<()> {
    let mut rows = Vec::new();
    for difference in listed {
        let groups = [("A", &difference.a), ("B", &difference.b)];
        let groups = groups.into_iter().filter_map(|(set, group)| Some((set, group.as_ref()?)));
        rows.extend(groups.map(|(set, group)| (difference, set, group)));
    }
    let columns: [Column<'_, (&Difference, &str, &EpisodeGroup)>; 8] = [
        ("device", Align::Right, &|(difference, ..)| difference.device_sn.to_string()),
        ("rule", Align::Right, &|(difference, ..)| difference.rule_id.to_string()),
        ("set", Align::Right, &|(_, set, _)| (*set).to_owned()),
        ("opened", Align::Right, &|(.., group)| group.opened_at.clone()),
        ("ended", Align::Right, &|(.., group)| group.ended_at.as_deref().unwrap_or("open").into()),
        ("severity", Align::Right, &|(.., group)| group.severity.as_str().to_owned()),
        ("episodes", Align::Right, &|(.., group)| group.episodes.to_string()),
        ("notified", Align::Right, &|(.., group)| group.notifications.to_string()),
    ];
    table(&rows, columns, out)
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
