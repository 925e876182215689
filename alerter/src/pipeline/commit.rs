//! Writes all results of a batch of readings in one transaction: state, alerts, outbox, counts, and
//! the advance of the ledger.
//!
//! Makes one attempt. [`crate::pipeline`] retries, splits the batch, and notes the rows that MySQL
//! rejects without harm to other rows.

use std::time::Duration;

use jiff::Timestamp;
use ljwx_ledger::ledger::{Ledger, LedgerPosition};
use ljwx_ledger::mysql::MySqlConnection;
use ljwx_ledger::mysql::errors::{self, Remedy};
use metrics::counter;
use tracing::warn;

use crate::engine::episode::EpisodeKey;
use crate::metrics::REJECTED_ROWS;
use crate::mysql::alert_rows;
use crate::mysql::columns::{ColumnCache, Columns};
use crate::mysql::state_rows::{self, PartitionState};
use crate::mysql::suppressed_counts;
use crate::notify::operator_events::{OperatorEvent, OperatorEvents};
use crate::notify::outbox;
use crate::pipeline::partition_batch::PartitionBatch;

/// Time for which operators get no further event of the same kind.
const EVENT_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// The outcome of an attempt to write a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    /// The batch is written, except for these rows.
    Done(Vec<RejectedRow>),
    /// Nothing is written, because the batch of this partition is fenced.
    Fenced(usize, LedgerPosition),
    /// Nothing is written, because MySQL rejects a value.
    DataError,
    /// Nothing is written, because MySQL does not take some of the rows now.
    NotTaken,
}

/// Writes the batches of several partitions, all of them or none, and accounts for them in `ledger`.
///
/// After an error they may have been written. The next attempt finds out from the ledger. `alerts` is
/// the platform's table of alerts, whose columns differ between variants. `by_row`: a row that MySQL
/// rejects is written in its plain form, or left out. The other rows do not wait for it.
pub(super) async fn commit(
    ledger: &Ledger,
    alerts: &ColumnCache,
    batch: &[PartitionBatch],
    by_row: bool,
) -> sqlx::Result<CommitOutcome> {
    if by_row {
        // The platform may have changed its table: read the columns again.
        alerts.forget().await;
    }
    let columns = alerts.columns().await?.unwrap_or_default();
    let mut connection = ljwx_ledger::mysql::acquire(ledger.pool()).await?;
    let mut transaction = connection.begin().await?;
    for (at, PartitionBatch { advance, .. }) in batch.iter().enumerate() {
        // The ledger comes first: a replica that does not own the partition is fenced before it
        // writes.
        if !ledger.advance(&mut transaction, advance).await? {
            transaction.rollback().await?;
            return Ok(CommitOutcome::Fenced(at, ledger.position(advance).await?));
        }
    }
    let mut rejected = RejectionLog { by_row, rows: Vec::new() };
    match write(&mut transaction, batch, &columns, &mut rejected).await {
        Ok(()) => transaction.commit().await?,
        Err(error) if !by_row && errors::remedy(&error) == Remedy::Data => {
            transaction.rollback().await?;
            return Ok(CommitOutcome::DataError);
        }
        Err(error) => return Err(error),
    }
    Ok(CommitOutcome::Done(rejected.rows))
}

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
            "MySQL rejects a row of {table} ({errno}: {message}); it is written in a plain form or \
             left out, and its notifications go out all the same"
        );
        let event = OperatorEvent::about("row_refused", text, Timestamp::now());
        operators.notify_once(format!("{table} {errno}"), EVENT_INTERVAL, event);
    }
}

/// The rows that MySQL rejected, if the others are written nevertheless.
struct RejectionLog {
    by_row: bool,
    rows: Vec<RejectedRow>,
}

impl RejectionLog {
    /// Records a row that MySQL rejects, and returns whether MySQL rejected it. Returns other errors,
    /// and every error of a batch that is written as a whole.
    fn note(
        &mut self,
        table: &'static str,
        key: Option<&EpisodeKey>,
        written: sqlx::Result<()>,
    ) -> sqlx::Result<bool> {
        match written {
            Err(error) if self.by_row && errors::remedy(&error) == Remedy::Data => {
                self.rows.push(RejectedRow {
                    table,
                    errno: errors::number(&error).unwrap_or_default(),
                    episode_key: key.map(|key| key.as_str().to_owned()),
                    message: errors::message(&error),
                });
                Ok(true)
            }
            written => written.map(|()| false),
        }
    }
}

/// Writes the rows of a batch. A rejected statement leaves the transaction as it was before the
/// statement.
async fn write(
    connection: &mut MySqlConnection,
    batch: &[PartitionBatch],
    columns: &Columns,
    rejected: &mut RejectionLog,
) -> sqlx::Result<()> {
    let rows_max = if rejected.by_row { 1 } else { usize::MAX };
    let states: Vec<_> = batch.iter().map(|one| (one.advance.partition, &one.state)).collect();
    let saved = state_rows::save_partitions(connection, &states).await;
    rejected.note("t_alert_journal", None, saved)?;
    let tracked = batch
        .iter()
        .flat_map(|one| one.state.tracked.iter().map(move |row| (one.advance.partition, row)));
    let tracked: Vec<PartitionState<'_>> = tracked.collect();
    for rows in tracked.chunks(rows_max) {
        let saved = state_rows::save_tracked(connection, rows).await;
        rejected.note("t_alert_state", None, saved)?;
    }
    let opened: Vec<_> = batch.iter().flat_map(|one| &one.opened).collect();
    for alerts in opened.chunks(rows_max) {
        let key = alerts.first().map(|alert| &alert.key);
        let opened = alert_rows::open(connection, alerts, columns, false).await;
        if rejected.note("t_alert_info", key, opened)? {
            // The rejection is recorded already. Write as much of the alert as MySQL accepts.
            let plain = alert_rows::open(connection, alerts, columns, true).await;
            RejectionLog { by_row: true, rows: Vec::new() }.note("t_alert_info", key, plain)?;
        }
    }
    for partition_batch in batch {
        for (key, change) in &partition_batch.changed {
            let changed = alert_rows::change(connection, key, change).await;
            rejected.note("t_alert_info", None, changed)?;
        }
        for notification in &partition_batch.notifications {
            let added = outbox::add(connection, notification).await;
            rejected.note("t_alert_outbox", Some(&notification.key), added)?;
        }
        for moment in &partition_batch.moments {
            let folded = outbox::fold(connection, moment).await;
            rejected.note("t_alert_outbox", None, folded)?;
        }
    }
    // Last, because these rows are shared with other replicas and stay locked until the commit:
    // first the counts, then the outbox.
    let suppressed = batch.iter().flat_map(|one| &one.suppressed).copied();
    let counted = suppressed_counts::save(connection, suppressed).await;
    rejected.note("t_alert_suppressed", None, counted)?;
    for notification in batch.iter().flat_map(|one| &one.notifications) {
        let raised = outbox::raise(connection, notification).await;
        rejected.note("t_alert_outbox", Some(&notification.key), raised)?;
    }
    Ok(())
}
