//! `alerter outbox`: lists, retries and drops notifications.
//!
//! Prints neither the message text nor any measured value. [`crate::notify::outbox`] holds the
//! statements.

use std::io::{self, Write};

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Subcommand};
use ljwx_service::config::Problems;
use ljwx_service::text::Align::Left;
use ljwx_service::text::{Column, print_found, table};

use super::DatabaseArgs;
use crate::notify::outbox::{Outbox, OutboxFilter, OutboxRow};

/// Longest reason, in characters.
const REASON_CHARS_MAX: usize = 200;

/// Most row ids of one command.
const IDS_MAX: usize = 1_000;

/// Most rows that one command changes. Run the command again for more.
const CHANGED_MAX: usize = 10_000;

/// Settings of `alerter outbox`.
#[derive(Debug, Clone, Args)]
pub struct OutboxArgs {
    /// The tables.
    #[command(flatten)]
    pub tables: DatabaseArgs,
    /// Only notifications in this state.
    #[arg(long, value_parser = states(), global = true)]
    pub state: Option<String>,
    /// The selected notifications.
    #[command(flatten)]
    pub filter: OutboxFilter,
    /// The action.
    #[command(subcommand)]
    pub action: OutboxAction,
}

/// Returns the states of a notification.
fn states() -> PossibleValuesParser {
    let states = [
        ("pending", "The notification is pending"),
        ("in_digest", "The notification is pending in a digest"),
        ("sent", "The platform accepted the notification"),
        (
            "dropped",
            "The notification was dropped: too old, no recipient, or on an operator's order",
        ),
        ("failed", "The notification can never be sent"),
        ("unrouted", "The recipient refused the notification and nobody else is known"),
        ("refused", "The recipient refused the notification, and others have it"),
        ("moved", "The account did not send, and another account has the notification"),
    ];
    states.map(|(name, help)| PossibleValue::new(name).help(help)).into()
}

/// The actions of `alerter outbox`.
#[derive(Debug, Clone, Subcommand)]
pub enum OutboxAction {
    /// List notifications, one a line, the oldest first: recipient, state and reason.
    List {
        /// Most notifications; newer ones are left out.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Print one JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Make notifications due now; unrouted, failed and dropped notifications start again. A
    /// notification that is too old by then is dropped again, unless its episode still fires. Those
    /// that would come after the end of their alert, or after a later message of it, are skipped.
    Retry {
        /// Only print the selected notifications.
        #[arg(long)]
        dry_run: bool,
    },
    /// Drop pending and unrouted notifications for good; the alerts' log records the drop.
    Drop {
        /// Reason, for people who look at the alert later.
        #[arg(long)]
        reason: String,
        /// Only print the selected notifications.
        #[arg(long)]
        dry_run: bool,
    },
}

impl OutboxAction {
    /// Returns the states of the notifications that the action changes.
    fn changed(&self) -> &'static [&'static str] {
        match self {
            Self::List { .. } => &[],
            Self::Retry { .. } => &["pending", "unrouted", "failed", "dropped"],
            Self::Drop { .. } => &["pending", "unrouted"],
        }
    }
}

impl OutboxArgs {
    /// Adds what is wrong with the settings to `problems`.
    pub fn validate(&self, problems: &mut Problems) {
        self.tables.validate(problems);
        problems.require(self.filter.ids.len() <= IDS_MAX, || {
            format!("--id takes at most {IDS_MAX} numbers")
        });
        match &self.action {
            OutboxAction::List { limit, .. } => {
                problems.require(*limit >= 1, || "--limit must be at least 1".into());
                return;
            }
            OutboxAction::Retry { .. } => {}
            OutboxAction::Drop { reason, .. } => {
                let length = reason.trim().chars().count();
                problems.require((1..=REASON_CHARS_MAX).contains(&length), || {
                    format!("--reason must have 1 to {REASON_CHARS_MAX} characters")
                });
            }
        }
        let filtered = self.state.is_some() || self.filter != OutboxFilter::default();
        problems.require(filtered, || {
            "say which notifications: --id, --state, --customer-id, --recipient or --older-than"
                .into()
        });
        let changed = self.action.changed();
        let state = self.state.as_deref();
        problems.require(state.is_none_or(|state| changed.contains(&state)), || {
            format!("--state must be {} here: others cannot be changed", changed.join(", "))
        });
    }

    /// Returns the filter of the selected rows. When rows are changed, a digest stands for all its
    /// rows.
    fn filter(&self) -> OutboxFilter {
        let states = match &self.state {
            Some(state) => vec![state.clone()],
            None => self.action.changed().iter().map(ToString::to_string).collect(),
        };
        let whole = !matches!(self.action, OutboxAction::List { .. });
        OutboxFilter { states, whole, ..self.filter.clone() }
    }

    /// Runs the command. Prints the result on standard output.
    pub async fn run(&self) -> anyhow::Result<()> {
        let pool = self.tables.connect()?;
        let (outbox, filter) = (Outbox { pool }, self.filter());
        let out = &mut io::stdout();
        let (dry_run, reason) = match &self.action {
            OutboxAction::List { limit, json } => {
                let rows = outbox.list(&filter, *limit).await?;
                return Ok(print_found(*json, &rows, out, |rows, out| print(rows, out))?);
            }
            OutboxAction::Retry { dry_run } => (*dry_run, None),
            OutboxAction::Drop { reason, dry_run } => (*dry_run, Some(reason.trim())),
        };
        let mut rows = outbox.list(&filter, CHANGED_MAX).await?;
        let found = rows.len();
        rows.retain(|row| reason.is_some() || !row.is_overtaken);
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let done = match (reason, found - rows.len()) {
            (Some(_), _) => "dropped".to_owned(),
            (None, 0) => "made due".to_owned(),
            (None, skipped) => format!(
                "made due, {skipped} skipped: their alerts are over, or a later message was sent"
            ),
        };
        if dry_run {
            print(&rows, out)?;
            return Ok(writeln!(out, "{} notification(s) would be {done}", rows.len())?);
        }
        let (changed, unlogged) = match reason {
            Some(reason) => outbox.discard(&ids, reason).await?,
            None => (outbox.retry(&ids).await?, None),
        };
        if let Some(error) = unlogged {
            eprintln!("warning: cannot write to t_alert_action_log: {error}");
        }
        Ok(writeln!(out, "{changed} notification(s) {done}")?)
    }
}

fn print(rows: &[OutboxRow], out: &mut impl Write) -> io::Result<()> {
    let columns: [Column<'_, OutboxRow>; 11] = [
        ("id", Left, &|row| row.id.to_string()),
        ("state", Left, &state),
        ("customer", Left, &|row| row.customer_id.to_string()),
        ("recipient", Left, &|row| row.recipient.clone()),
        ("device", Left, &|row| row.device_sn.clone().unwrap_or_default()),
        ("what", Left, &|row| row.transition.clone()),
        ("attempts", Left, &|row| row.attempts.to_string()),
        ("age", Left, &|row| format!("{}s", row.age_seconds)),
        ("due in", Left, &due_in),
        ("errcode", Left, &|row| row.last_errcode.map(|code| code.to_string()).unwrap_or_default()),
        ("why", Left, &|row| row.last_error.clone().unwrap_or_default()),
    ];
    table(rows, columns, out)
}

fn state(row: &OutboxRow) -> String {
    match row.digest_id {
        Some(digest) => format!("{} in {digest}", row.state),
        None if row.uncertain => format!("{}, uncertain", row.state),
        None => row.state.clone(),
    }
}

fn due_in(row: &OutboxRow) -> String {
    let waits = matches!(row.state.as_str(), "pending" | "unrouted");
    if waits { format!("{}s", row.due_in_seconds.max(0)) } else { String::new() }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
