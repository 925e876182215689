//! Writes a batch in the background while the next one is evaluated. One batch is written at a
//! time: the next one begins where this one ends.
//!
//! Returns what MySQL does not take now. `batches` then has each partition written alone.

use std::sync::Arc;
use std::time::Instant;

use ljwx_ledger::ledger::{Advance, Ledger, LedgerPosition};
use ljwx_ledger::mysql::errors;
use ljwx_service::heartbeat::Heartbeat;
use metrics::{counter, histogram};
use tokio::sync::{Notify, Semaphore};
use tracing::warn;

use crate::metrics::{ALERT_CHECK_SECONDS, COMMIT_RETRIES};
use crate::mysql::columns::ColumnCache;
use crate::mysql::retry::{MysqlRetry, Stopping};
use crate::notify::operator_events::OperatorEvents;
use crate::pipeline::commit::{self, CommitOutcome};
use crate::pipeline::partition_batch::PartitionBatch;
use crate::pipeline::shared_state::SharedState;
use crate::pipeline::waiting_partitions::HoldReason;

/// Held batches write on one in this number of connections. An attempt keeps its connection for as
/// long as MySQL waits for a lock.
const CONNECTION_SHARES: u32 = 2;

/// The outcome of writing a batch.
#[derive(Debug)]
pub(super) struct WriteOutcome {
    /// The time at which the evaluation of the batch began.
    pub(super) begun: Instant,
    /// Partitions whose batch is committed, or fenced.
    pub(super) settled: Vec<(Advance, LedgerPosition)>,
    /// Batches that MySQL did not take. It may take some of these partitions alone.
    pub(super) not_taken: Vec<PartitionBatch>,
    /// Whether the rest was released unwritten, because the process has to end.
    pub(super) released: bool,
}

/// Writes batches. Each task that writes has a clone.
#[derive(Debug, Clone)]
pub(super) struct BatchWriter {
    pub(super) ledger: Ledger,
    /// The platform's table of alerts.
    alerts: Arc<ColumnCache>,
    /// With a heartbeat of its own: the main loop does not wait for the tasks, so they must not speak
    /// for the loop.
    mysql_retry: MysqlRetry,
    wake: Arc<Notify>,
    /// The channel to the operators, who get an event for rows that MySQL rejects.
    operators: OperatorEvents,
    /// One permit for each attempt to write a held batch that may be made at a time.
    attempts: Arc<Semaphore>,
}

impl BatchWriter {
    /// Writes to the database of the ledger.
    pub(super) fn new(shared: &SharedState) -> Self {
        let ledger = shared.ledger.clone();
        let connections = ledger.pool().unlimited().options().get_max_connections();
        let attempts = (connections / CONNECTION_SHARES).max(1) as usize;
        Self {
            alerts: Arc::new(ColumnCache::new(ledger.pool().clone(), "t_alert_info")),
            ledger,
            mysql_retry: shared.mysql_retry.with_heartbeat(Heartbeat::of("writer")),
            wake: Arc::clone(&shared.wake),
            operators: shared.operators.clone(),
            attempts: Arc::new(Semaphore::new(attempts)),
        }
    }

    /// Writes parts of a batch, whose evaluation began at `begun`, one after another.
    ///
    /// `alone`: the parts are of one partition, and each is written until MySQL takes it. `None`:
    /// returns what MySQL does not take, so that the other partitions go on.
    pub(super) async fn write(
        self,
        begun: Instant,
        mut parts: Vec<Vec<PartitionBatch>>,
        alone: Option<HoldReason>,
    ) -> WriteOutcome {
        let mut written =
            WriteOutcome { begun, settled: Vec::new(), not_taken: Vec::new(), released: false };
        parts.reverse();
        // Each turn removes a partition, splits a part, or writes a partition row by row. So the
        // loop ends.
        while let Some(mut part) = parts.pop() {
            match self.commit(&part, alone.as_ref()).await {
                Err(Stopping) => {
                    warn!(
                        "evaluated readings not written at shutdown, their next owner evaluates them again"
                    );
                    written.released = true;
                    break;
                }
                Ok(CommitOutcome::Done(rejected)) => {
                    rejected.iter().for_each(|row| row.note(&self.operators));
                    let committed = |one: &PartitionBatch| (one.advance, LedgerPosition::Committed);
                    written.settled.extend(part.iter().map(committed));
                    if part.iter().any(|one| !one.notifications.is_empty()) {
                        self.wake.notify_one();
                    }
                }
                // Retry each partition alone, to find the one whose value MySQL rejects.
                Ok(CommitOutcome::DataError) => {
                    parts.extend(part.into_iter().rev().map(|one| vec![one]));
                }
                Ok(CommitOutcome::Fenced(at, position)) => {
                    // Committed: an earlier attempt succeeded and only its answer was lost.
                    written.settled.push((part.remove(at).advance, position));
                    self.wake.notify_one();
                    if !part.is_empty() {
                        parts.push(part);
                    }
                }
                Ok(CommitOutcome::NotTaken) => written.not_taken.append(&mut part),
            }
        }
        if written.not_taken.is_empty() {
            histogram!(ALERT_CHECK_SECONDS).record(begun.elapsed().as_secs_f64());
        }
        written
    }

    /// Writes a part. If MySQL rejects a value of a single partition, writes the partition row by
    /// row.
    async fn commit(
        &self,
        part: &[PartitionBatch],
        alone: Option<&HoldReason>,
    ) -> Result<CommitOutcome, Stopping> {
        let of_partition = alone.map(|reason| format!(" of partition {}", reason.partition));
        let operation = format!("write alerts{}", of_partition.unwrap_or_default());
        let whole = || self.attempt(part, false, alone);
        let committed = self.mysql_retry.until_done(&operation, whole).await?;
        if committed == CommitOutcome::DataError && part.len() == 1 {
            let by_row = || self.attempt(part, true, alone);
            return self.mysql_retry.until_done(&operation, by_row).await;
        }
        Ok(committed)
    }

    /// Makes one attempt. An error is retried.
    async fn attempt(
        &self,
        part: &[PartitionBatch],
        by_row: bool,
        alone: Option<&HoldReason>,
    ) -> sqlx::Result<CommitOutcome> {
        let commit = commit::commit(&self.ledger, &self.alerts, part, by_row);
        let Some(reason) = alone else {
            return match commit.await {
                Err(error) if errors::may_take_others(&error) => {
                    counter!(COMMIT_RETRIES).increment(1);
                    Ok(CommitOutcome::NotTaken)
                }
                committed => committed,
            };
        };
        // Nothing closes the semaphore.
        let _permit = self.attempts.acquire().await;
        let committed = commit.await;
        let named = |error| format!("partition {}: {}", reason.partition, errors::message(error));
        reason.set(committed.as_ref().err().map(named));
        committed
    }
}
