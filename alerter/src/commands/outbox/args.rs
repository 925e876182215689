//! The settings of `alerter outbox`: the selected notifications, and the action.
//!
//! `run` performs the action.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use ljwx_ledger::mysql::MySqlArgs;
use ljwx_service::config::{Problems, ZoneArgs, duration};

use crate::notify::outbox::OutboxFilter;

/// Longest reason, in characters.
const REASON_CHARS_MAX: usize = 200;

/// Most row ids of one command.
const IDS_MAX: usize = 1_000;

/// Settings of `alerter outbox`.
#[derive(Debug, Clone, Args)]
pub struct OutboxArgs {
    /// The connection to MySQL.
    #[command(flatten)]
    pub mysql: MySqlArgs,
    /// The devices' zone.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// The selected notifications.
    #[command(flatten)]
    pub filter: OutboxFilterArgs,
    /// The action.
    #[command(subcommand)]
    pub action: OutboxAction,
}

/// Selects notifications. Without an option, selects all notifications.
#[derive(Debug, Clone, Args)]
pub struct OutboxFilterArgs {
    /// Only notifications in this state.
    #[arg(long, value_enum, global = true)]
    pub state: Option<OutboxState>,
    /// Only notifications of this tenant.
    #[arg(long, global = true)]
    pub customer_id: Option<i64>,
    /// Only notifications to this recipient, as kind:address.
    #[arg(long, global = true)]
    pub recipient: Option<String>,
    /// Only notifications with these numbers, as `list` prints them.
    #[arg(long, value_delimiter = ',', global = true)]
    pub id: Vec<i64>,
    /// Only notifications written longer ago than this, such as 30m.
    #[arg(long, value_parser = duration, global = true)]
    pub older_than: Option<Duration>,
}

/// The state of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutboxState {
    /// The notification is pending.
    Pending,
    /// The notification is pending in a digest.
    #[value(name = "in_digest")]
    InDigest,
    /// The platform accepted the notification.
    Sent,
    /// The notification was dropped: too old, no recipient, or on an operator's order.
    Dropped,
    /// The notification can never be sent.
    Failed,
    /// The recipient refused the notification and nobody else is known.
    Unrouted,
    /// The recipient refused the notification, and others have it.
    Refused,
    /// The account did not send, and another account has the notification.
    Moved,
}

/// The states of notifications that `retry` changes.
pub(super) const RETRIED: [OutboxState; 4] =
    [OutboxState::Pending, OutboxState::Unrouted, OutboxState::Failed, OutboxState::Dropped];

/// The states of notifications that `drop` changes.
pub(super) const DROPPED: [OutboxState; 2] = [OutboxState::Pending, OutboxState::Unrouted];

impl OutboxState {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InDigest => "in_digest",
            Self::Sent => "sent",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
            Self::Unrouted => "unrouted",
            Self::Refused => "refused",
            Self::Moved => "moved",
        }
    }
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
    /// notification that is too old by then is dropped again, unless its episode still fires.
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

impl OutboxArgs {
    /// Adds what is wrong with the settings to `problems`.
    pub fn validate(&self, problems: &mut Problems) {
        self.mysql.validate(problems);
        let OutboxFilterArgs { state, customer_id, recipient, id, older_than } = &self.filter;
        problems.require(id.len() <= IDS_MAX, || format!("--id takes at most {IDS_MAX} numbers"));
        let filtered = state.is_some()
            || customer_id.is_some()
            || recipient.is_some()
            || !id.is_empty()
            || older_than.is_some();
        let may_be: &[OutboxState] = match &self.action {
            OutboxAction::List { limit, .. } => {
                problems.require(*limit >= 1, || "--limit must be at least 1".into());
                return;
            }
            OutboxAction::Retry { .. } => &RETRIED,
            OutboxAction::Drop { reason, .. } => {
                let length = reason.trim().chars().count();
                problems.require((1..=REASON_CHARS_MAX).contains(&length), || {
                    format!("--reason must have 1 to {REASON_CHARS_MAX} characters")
                });
                &DROPPED
            }
        };
        problems.require(filtered, || {
            "say which notifications: --id, --state, --customer-id, --recipient or --older-than"
                .into()
        });
        problems.require(state.is_none_or(|state| may_be.contains(&state)), || {
            let words: Vec<_> = may_be.iter().map(|state| state.as_str()).collect();
            format!("--state must be {} here: others cannot be changed", words.join(", "))
        });
    }

    /// Returns the filter of the selected rows, among those in the given states. When rows are
    /// changed, a digest stands for all its rows.
    pub(super) fn filter(&self, states: &[OutboxState]) -> OutboxFilter {
        let given = &self.filter;
        let states = given.state.as_ref().map_or(states, std::slice::from_ref);
        OutboxFilter {
            states: states.iter().map(|state| state.as_str()).collect(),
            ids: given.id.clone(),
            customer_id: given.customer_id,
            recipient: given.recipient.clone(),
            older_than: given.older_than,
            whole: !matches!(self.action, OutboxAction::List { .. }),
        }
    }
}
