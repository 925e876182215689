//! Lists notifications, makes them due, or drops them.
//!
//! [`crate::notify::outbox`] holds the statements.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use ljwx_service::text::{Align, table_of};

use super::args::{DROPPED, OutboxAction, OutboxArgs, RETRIED};
use crate::commands::block_on;
use crate::notify::outbox::{Outbox, OutboxRow};

/// Most rows that one command changes. Run the command again for more.
const CHANGED_MAX: usize = 10_000;

/// Runs `alerter outbox`.
pub fn run(config: &OutboxArgs) -> ExitCode {
    let result = block_on(async {
        let pool = config.mysql.connect(&config.zone.zone).context("--mysql-url")?;
        act(config, &Outbox::new(pool), &mut io::stdout()).await
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn act(config: &OutboxArgs, outbox: &Outbox, out: &mut impl Write) -> anyhow::Result<()> {
    match &config.action {
        OutboxAction::List { limit, json } => {
            let rows = outbox.list(&config.filter(&[]), *limit).await?;
            print(&rows, *json, out)?;
        }
        OutboxAction::Retry { dry_run } => {
            let rows = outbox.list(&config.filter(&RETRIED), CHANGED_MAX).await?;
            if *dry_run {
                print(&rows, false, out)?;
                writeln!(out, "{} notification(s) would be made due", rows.len())?;
            } else {
                let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
                writeln!(out, "{} notification(s) made due", outbox.retry(&ids).await?)?;
            }
        }
        OutboxAction::Drop { reason, dry_run } => {
            let rows = outbox.list(&config.filter(&DROPPED), CHANGED_MAX).await?;
            if *dry_run {
                print(&rows, false, out)?;
                writeln!(out, "{} notification(s) would be dropped", rows.len())?;
            } else {
                let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
                let dropped = outbox.discard(&ids, reason.trim()).await?;
                writeln!(out, "{dropped} notification(s) dropped")?;
            }
        }
    }
    Ok(())
}

/// Names of the table's columns.
const COLUMNS: [&str; 11] = [
    "id",
    "state",
    "customer",
    "recipient",
    "device",
    "what",
    "attempts",
    "age",
    "due in",
    "errcode",
    "why",
];

pub(super) fn print(rows: &[OutboxRow], json: bool, out: &mut impl Write) -> io::Result<()> {
    if json {
        serde_json::to_writer_pretty(&mut *out, rows)?;
        return writeln!(out);
    }
    let mut cells = vec![COLUMNS.map(str::to_owned)];
    cells.extend(rows.iter().map(line));
    table_of([Align::Left; COLUMNS.len()], &cells, out)
}

fn line(row: &OutboxRow) -> [String; COLUMNS.len()] {
    let state = match row.digest_id {
        Some(digest) => format!("{} in {digest}", row.state),
        None if row.uncertain => format!("{}, uncertain", row.state),
        None => row.state.clone(),
    };
    let waits = matches!(row.state.as_str(), "pending" | "unrouted");
    [
        row.id.to_string(),
        state,
        row.customer_id.to_string(),
        row.recipient.clone(),
        row.device_sn.clone().unwrap_or_default(),
        row.transition.clone(),
        row.attempts.to_string(),
        format!("{}s", row.age_seconds),
        if waits { format!("{}s", row.due_in_seconds.max(0)) } else { String::new() },
        row.last_errcode.map(|code| code.to_string()).unwrap_or_default(),
        row.last_error.clone().unwrap_or_default(),
    ]
}
