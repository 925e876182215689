//! Counts rows that MySQL rejects without harm to other rows, and notifies operators.

use std::time::Duration;

use jiff::Timestamp;
use ljwx_ledger::mysql::errors;
use metrics::counter;
use tracing::warn;

use crate::metrics::REJECTED_ROWS;
use crate::mysql::alert_rows::EpisodeKey;
use crate::notify::operator_events::{OperatorEvent, OperatorEvents};

/// Time for which operators get no further event of the same kind.
const EVENT_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// A row that was written in its plain form, or left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRow {
    table: &'static str,
    errno: u16,
    episode_key: Option<String>,
    /// The server's message, without the value.
    message: String,
}

impl RejectedRow {
    /// The row of `table` that `error` concerns.
    pub fn new(table: &'static str, key: Option<&EpisodeKey>, error: &sqlx::Error) -> Self {
        Self {
            table,
            errno: errors::number(error).unwrap_or_default(),
            episode_key: key.map(|key| key.as_str().to_owned()),
            message: errors::message(error),
        }
    }

    /// Counts and logs the row. Operators get an event for the first row of its kind in a day: of
    /// its table and error.
    pub fn note(&self, operators: &OperatorEvents) {
        let Self { table, errno, episode_key, message } = self;
        counter!(REJECTED_ROWS, "table" => *table, "errno" => errno.to_string()).increment(1);
        warn!(
            table,
            errno,
            alert.episode_key = episode_key,
            message,
            "MySQL rejected a row, writing it in plain form or skipping it"
        );
        let text = format!(
            "MySQL refuses a row of {table} ({errno}: {message}); it is written in a plain form or \
             left out, and its notifications go out all the same"
        );
        let event = OperatorEvent::about("row_refused", text, Timestamp::now());
        operators.notify_once(format!("{table} {errno}"), EVENT_INTERVAL, event);
    }
}
