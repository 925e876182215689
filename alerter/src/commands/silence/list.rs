//! `alerter silence list`: prints a table for people, or one JSON document.

use std::io::{self, Write};

use anyhow::Context;
use clap::Args;
use jiff::tz::TimeZone;
use ljwx_service::text::{Align, table_of};
use serde::Serialize;

use crate::commands::{DatabaseArgs, wall};
use crate::notify::silences::table::{self, NewSilence, SilenceRow};

/// Most silences that are listed: the newest.
const LISTED_MAX: usize = 1_000;

/// Names of the table's columns.
const COLUMNS: [&str; 8] =
    ["id", "state", "from", "to", "tenant", "device", "rule", "reason (who)"];

/// Alignment of the table's columns.
const SIDES: [Align; 8] = [
    Align::Right,
    Align::Left,
    Align::Left,
    Align::Left,
    Align::Right,
    Align::Left,
    Align::Right,
    Align::Left,
];

/// Settings of `silence list`.
#[derive(Debug, Clone, Args)]
pub struct SilenceListArgs {
    /// Also silences that are over: who silenced what, when and why, for 400 days.
    #[arg(long)]
    pub all: bool,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub json: bool,
    /// The tables.
    #[command(flatten)]
    pub tables: DatabaseArgs,
}

/// A silence and its state.
#[derive(Debug, Serialize)]
struct ListedSilence<'a> {
    state: &'static str,
    #[serde(flatten)]
    record: &'a SilenceRow,
}

/// Lists silences on standard output.
pub async fn run(config: &SilenceListArgs) -> anyhow::Result<()> {
    let zone = &config.tables.zone.zone;
    let pool = config.tables.mysql.connect(zone)?;
    let mut connection = pool.acquire().await.context("MySQL does not answer")?;
    let now = table::now_ms(&mut connection).await?;
    let records = table::list(&mut connection, config.all, LISTED_MAX + 1).await?;
    let shown = &records[..records.len().min(LISTED_MAX)];
    let mut out = io::stdout();
    if config.json {
        json(shown, now, &mut out)?;
    } else {
        print(shown, now, zone, &mut out)?;
    }
    if records.len() > shown.len() {
        tracing::warn!(listed = shown.len(), "older silences not listed");
    }
    Ok(())
}

/// Writes to standard output.
pub fn print_line(text: &str) -> anyhow::Result<()> {
    Ok(io::stdout().write_all(text.as_bytes())?)
}

fn json(records: &[SilenceRow], now: i64, out: &mut impl Write) -> anyhow::Result<()> {
    let line = |record| ListedSilence { state: SilenceRow::state(record, now), record };
    let lines: Vec<_> = records.iter().map(line).collect();
    serde_json::to_writer_pretty(&mut *out, &lines)?;
    Ok(writeln!(out)?)
}

fn print(
    records: &[SilenceRow],
    now: i64,
    zone: &TimeZone,
    out: &mut impl Write,
) -> io::Result<()> {
    let any = |number: Option<i64>| number.map_or_else(|| "any".to_owned(), |one| one.to_string());
    let line = |record: &SilenceRow| {
        let NewSilence { author, reason, .. } = &record.silence;
        let by = record.ended_by.as_ref().map_or_else(String::new, |by| format!(", ended by {by}"));
        [
            record.id.to_string(),
            record.state(now).to_owned(),
            wall(record.silence.starts_at, zone),
            wall(record.ended_at.unwrap_or(record.silence.ends_at), zone),
            any(record.silence.customer_id),
            record.silence.device_sn.clone().unwrap_or_else(|| "any".to_owned()),
            any(record.silence.rule_id),
            format!("{reason} ({author}{by})"),
        ]
    };
    let lines = records.iter().map(line);
    let lines: Vec<_> = std::iter::once(COLUMNS.map(str::to_owned)).chain(lines).collect();
    table_of(SIDES, &lines, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_what_is_silenced_until_when_and_by_whom() {
        let silence = NewSilence {
            customer_id: Some(7),
            device_sn: None,
            rule_id: Some(3),
            reason: "ward is moving".into(),
            author: "ann".into(),
            starts_at: 0,
            ends_at: 7_200_000,
        };
        let of_device = NewSilence {
            customer_id: None,
            device_sn: Some("A1".into()),
            rule_id: None,
            ..silence.clone()
        };
        let lasting = SilenceRow { id: 2, silence, ended_at: None, ended_by: None, created_at: 0 };
        let ended = SilenceRow {
            id: 1,
            silence: of_device,
            ended_at: Some(60_000),
            ended_by: Some("bob".into()),
            ..lasting.clone()
        };
        let mut out = Vec::new();
        let records = [lasting, ended];
        print(&records, 60_000, &TimeZone::get("Asia/Shanghai").unwrap(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let expected = "\
id  state   from                 to                   tenant  device  rule  reason (who)
 2  active  1970-01-01 08:00:00  1970-01-01 10:00:00       7  any        3  ward is moving (ann)
 1  ended   1970-01-01 08:00:00  1970-01-01 08:01:00     any  A1       any  ward is moving (ann, ended by bob)
";
        assert_eq!(text, expected);
        let mut out = Vec::new();
        json(&records, 60_000, &mut out).unwrap();
        let lines: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&lines[0]["state"], &lines[1]["ended_by"]), (&"active".into(), &"bob".into()));
    }
}
