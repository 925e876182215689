//! Writes all results of a batch of readings in one transaction: state, alerts, outbox, counts, and
//! the advance of the ledger.
//!
//! Makes one attempt. [`crate::pipeline`] retries, and splits the batch.

use std::sync::Arc;

use ljwx_ledger::ledger::{Ledger, LedgerPosition};
use ljwx_ledger::mysql::errors::{self, Remedy};
use ljwx_ledger::mysql::{MySqlConnection, MySqlPool};

use crate::engine::StateChanges;
use crate::mysql::columns::{ColumnCache, Columns};
use crate::mysql::suppressed_counts::{self, SuppressedCounts};
use crate::mysql::{alert_rows, state_rows};
use crate::notify::outbox;
use crate::notify::rejected_rows::RejectedRow;
use crate::pipeline::partition_batch::PartitionBatch;

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

/// Writes batches to MySQL.
#[derive(Debug, Clone)]
pub struct BatchCommit {
    pool: MySqlPool,
    ledger: Ledger,
    /// The platform's table of alerts, whose columns differ between variants.
    alerts: Arc<ColumnCache>,
}

impl BatchCommit {
    /// Writes to `pool`, and accounts for batches in `ledger`.
    pub fn new(pool: MySqlPool, ledger: Ledger) -> Self {
        let alerts = Arc::new(ColumnCache::new(pool.clone(), "t_alert_info"));
        Self { pool, ledger, alerts }
    }

    /// The pool of the database.
    pub fn pool(&self) -> &MySqlPool {
        &self.pool
    }

    /// Writes the batches of several partitions, all of them or none. After an error they may have
    /// been written. The next attempt finds out from the ledger.
    pub async fn commit(&self, batch: &[PartitionBatch]) -> Result<CommitOutcome, sqlx::Error> {
        let columns = self.alerts.columns().await?.unwrap_or_default();
        let mut connection = ljwx_ledger::mysql::acquire(&self.pool).await?;
        let mut transaction = connection.begin().await?;
        for (at, partition_batch) in batch.iter().enumerate() {
            let advance = &partition_batch.advance;
            // The ledger comes first: a replica that does not own the partition is fenced before it
            // writes.
            if !self.ledger.advance(&mut transaction, advance).await? {
                transaction.rollback().await?;
                return Ok(CommitOutcome::Fenced(at, self.ledger.position(advance).await?));
            }
        }
        match write(&mut transaction, batch, &columns).await {
            Ok(()) => {}
            Err(error) if errors::remedy(&error) == Remedy::Data => {
                transaction.rollback().await?;
                return Ok(CommitOutcome::DataError);
            }
            Err(error) => return Err(error),
        }
        transaction.commit().await?;
        Ok(CommitOutcome::Done(Vec::new()))
    }

    /// Writes the batch of one partition row by row, also in one transaction. A row that MySQL
    /// rejects is written in its plain form, or left out. The other rows and the partition do not
    /// wait for it.
    pub async fn commit_by_row(
        &self,
        partition_batch: &PartitionBatch,
    ) -> Result<CommitOutcome, sqlx::Error> {
        // The platform may have changed its table: read the columns again.
        self.alerts.forget().await;
        let columns = self.alerts.columns().await?.unwrap_or_default();
        let mut connection = ljwx_ledger::mysql::acquire(&self.pool).await?;
        let mut transaction = connection.begin().await?;
        if !self.ledger.advance(&mut transaction, &partition_batch.advance).await? {
            transaction.rollback().await?;
            return Ok(CommitOutcome::Fenced(
                0,
                self.ledger.position(&partition_batch.advance).await?,
            ));
        }
        let refused = write_by_row(&mut transaction, partition_batch, &columns).await?;
        transaction.commit().await?;
        Ok(CommitOutcome::Done(refused))
    }
}

async fn write(
    connection: &mut MySqlConnection,
    batch: &[PartitionBatch],
    columns: &Columns,
) -> Result<(), sqlx::Error> {
    let states: Vec<_> = batch
        .iter()
        .map(|partition_batch| (partition_batch.advance.partition, &partition_batch.state))
        .collect();
    state_rows::save(connection, &states).await?;
    let opened: Vec<_> = batch.iter().flat_map(|partition_batch| &partition_batch.opened).collect();
    alert_rows::open(connection, &opened, columns, false).await?;
    let mut suppressed = SuppressedCounts::default();
    for partition_batch in batch {
        for change in &partition_batch.changed {
            alert_rows::change(connection, change).await?;
        }
        for notification in &partition_batch.notifications {
            outbox::add(connection, notification).await?;
        }
        for moment in &partition_batch.moments {
            outbox::fold(connection, moment).await?;
        }
        suppressed.add(&partition_batch.suppressed);
    }
    // Last, because other replicas share these rows: they stay locked until the commit. Those of
    // the outbox come after the counts, for which this transaction may wait.
    suppressed_counts::save(connection, &suppressed).await?;
    for notification in batch.iter().flat_map(|partition_batch| &partition_batch.notifications) {
        outbox::raise(connection, notification).await?;
    }
    Ok(())
}

/// Writes row by row. A rejected statement leaves the transaction as it was before the statement.
async fn write_by_row(
    connection: &mut MySqlConnection,
    partition_batch: &PartitionBatch,
    columns: &Columns,
) -> Result<Vec<RejectedRow>, sqlx::Error> {
    let mut refused = Vec::new();
    let partition = partition_batch.advance.partition;
    let StateChanges { tracked, .. } = &partition_batch.state;
    let rest = StateChanges { tracked: Vec::new(), ..partition_batch.state.clone() };
    let saved = state_rows::save(connection, &[(partition, &rest)]).await;
    note(&mut refused, "t_alert_journal", None, saved)?;
    for row in tracked {
        let one = StateChanges { tracked: vec![row.clone()], ..StateChanges::default() };
        let saved = state_rows::save(connection, &[(partition, &one)]).await;
        note(&mut refused, "t_alert_state", None, saved)?;
    }
    for alert in &partition_batch.opened {
        let key = Some(&alert.key);
        let opened = alert_rows::open(connection, &[alert], columns, false).await;
        if note(&mut refused, "t_alert_info", key, opened)? {
            // The rejection is recorded already. Write as much of the alert as MySQL accepts.
            let plain = alert_rows::open(connection, &[alert], columns, true).await;
            note(&mut Vec::new(), "t_alert_info", key, plain)?;
        }
    }
    for change in &partition_batch.changed {
        let changed = alert_rows::change(connection, change).await;
        note(&mut refused, "t_alert_info", None, changed)?;
    }
    for notification in &partition_batch.notifications {
        let added = outbox::add(connection, notification).await;
        note(&mut refused, "t_alert_outbox", Some(&notification.key), added)?;
    }
    for moment in &partition_batch.moments {
        let folded = outbox::fold(connection, moment).await;
        note(&mut refused, "t_alert_outbox", None, folded)?;
    }
    let counted = suppressed_counts::save(connection, &partition_batch.suppressed).await;
    note(&mut refused, "t_alert_suppressed", None, counted)?;
    for notification in &partition_batch.notifications {
        let raised = outbox::raise(connection, notification).await;
        note(&mut refused, "t_alert_outbox", Some(&notification.key), raised)?;
    }
    Ok(refused)
}

/// Records a row that MySQL rejects, and returns whether MySQL rejected it. Returns other errors.
fn note(
    refused: &mut Vec<RejectedRow>,
    table: &'static str,
    key: Option<&alert_rows::EpisodeKey>,
    written: Result<(), sqlx::Error>,
) -> Result<bool, sqlx::Error> {
    match written {
        Ok(()) => Ok(false),
        Err(error) if errors::remedy(&error) == Remedy::Data => {
            refused.push(RejectedRow::new(table, key, &error));
            Ok(true)
        }
        Err(error) => Err(error),
    }
}
