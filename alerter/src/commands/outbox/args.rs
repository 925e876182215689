//! The settings of `alerter outbox`: which notifications, and what to do with them.
//!
//! Does nothing; `run` does.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use ljwx_ledger::mysql::MySqlArgs;
use ljwx_service::config::{Problems, ZoneArgs, duration};

use crate::notify::outbox::Filter;

/// Longest reason, in characters.
const REASON_CHARS_MAX: usize = 200;

/// Numbers of rows that one command takes.
const IDS_MAX: usize = 1_000;

/// Settings of `alerter outbox`.
#[derive(Debug, Clone, Args)]
pub struct OutboxConfig {
    /// The connection to MySQL.
    #[command(flatten)]
    pub mysql: MySqlArgs,
    /// The devices' zone.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Only these.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// Which notifications are meant; without any, all of them.
#[derive(Debug, Clone, Args)]
pub struct FilterArgs {
    /// Only in this state.
    #[arg(long, value_enum, global = true)]
    pub state: Option<State>,
    /// Only of this tenant.
    #[arg(long, global = true)]
    pub customer_id: Option<i64>,
    /// Only for this recipient, as kind:address.
    #[arg(long, global = true)]
    pub recipient: Option<String>,
    /// Only these numbers, as `list` shows them.
    #[arg(long, value_delimiter = ',', global = true)]
    pub id: Vec<i64>,
    /// Only those written longer ago than this, such as 30m.
    #[arg(long, value_parser = duration, global = true)]
    pub older_than: Option<Duration>,
}

/// Where a notification stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// It waits.
    Pending,
    /// It waits as part of a digest.
    Folded,
    /// The platform took it.
    Sent,
    /// It was given up: too old, nobody to tell, or an operator said so.
    Dropped,
    /// It can never be sent.
    Failed,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Folded => "folded",
            Self::Sent => "sent",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }
}

/// What `alerter outbox` does.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// One line a notification: whom it is for, where it stands, and why.
    List {
        /// Most lines.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// One JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Make notifications due now; those that failed or were dropped begin anew. One that is too old
    /// by then is dropped again, unless what it tells of goes on.
    Retry {
        /// Only say which.
        #[arg(long)]
        dry_run: bool,
    },
    /// Give waiting notifications up for good; the alerts' log says so.
    Drop {
        /// Why, for whoever looks at the alert later.
        #[arg(long)]
        reason: String,
        /// Only say which.
        #[arg(long)]
        dry_run: bool,
    },
}

impl OutboxConfig {
    /// Notes what is wrong with the settings.
    pub fn validate(&self, problems: &mut Problems) {
        self.mysql.validate(problems);
        let FilterArgs { state, customer_id, recipient, id, older_than } = &self.filter;
        problems.require(id.len() <= IDS_MAX, || format!("--id takes at most {IDS_MAX} numbers"));
        let filtered = state.is_some()
            || customer_id.is_some()
            || recipient.is_some()
            || !id.is_empty()
            || older_than.is_some();
        let may_be: &[State] = match &self.action {
            Action::List { limit, .. } => {
                problems.require(*limit >= 1, || "--limit must be at least 1".into());
                return;
            }
            Action::Retry { .. } => &[State::Pending, State::Failed, State::Dropped],
            Action::Drop { reason, .. } => {
                let length = reason.trim().chars().count();
                problems.require((1..=REASON_CHARS_MAX).contains(&length), || {
                    format!("--reason must have 1 to {REASON_CHARS_MAX} characters")
                });
                &[State::Pending]
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

    /// The rows meant, among those in the given states; a digest stands for all it tells of.
    pub(super) fn filter(&self, states: &[State]) -> Filter {
        let given = &self.filter;
        let states = given.state.as_ref().map_or(states, std::slice::from_ref);
        Filter {
            states: states.iter().map(|state| state.as_str()).collect(),
            ids: given.id.clone(),
            customer_id: given.customer_id,
            recipient: given.recipient.clone(),
            older_than: given.older_than,
            whole: !matches!(self.action, Action::List { .. }),
        }
    }
}
