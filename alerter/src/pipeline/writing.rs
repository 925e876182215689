//! Writes a batch in the background while the next one is evaluated. One batch is written at a
//! time: the next one begins where this one ends.
//!
//! Returns what MySQL does not take now. `batches` then has each partition written alone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use ljwx_ledger::ledger::{Advance, LedgerPosition};
use ljwx_ledger::mysql::{MySqlPool, errors};
use metrics::{counter, histogram};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tracing::warn;

use crate::metrics::{ALERT_CHECK_SECONDS, COMMIT_RETRIES};
use crate::mysql::retry::{MysqlRetry, Stopping};
use crate::notify::operator_events::OperatorEvents;
use crate::pipeline::commit::{BatchCommit, CommitOutcome};
use crate::pipeline::partition_batch::PartitionBatch;
use crate::pipeline::waiting_partitions::HoldReason;

/// Held batches write on one in this number of connections. An attempt keeps its connection for as
/// long as MySQL waits for a lock.
const CONNECTION_SHARES: u32 = 2;

/// The outcome of writing a batch.
#[derive(Debug)]
pub(super) struct WriteOutcome {
    /// The time at which the evaluation of the batch began.
    pub(super) begun: Instant,
    /// Partitions whose batch is written.
    pub(super) done: Vec<Advance>,
    /// Partitions whose batch is fenced.
    pub(super) fenced: Vec<(Advance, LedgerPosition)>,
    /// Batches that MySQL did not take. It may take some of these partitions alone.
    pub(super) not_taken: Vec<PartitionBatch>,
    /// Whether the rest was released unwritten, because the process has to end.
    pub(super) released: bool,
}

/// Lets a task write one partition alone, until MySQL takes its batch.
#[derive(Debug)]
pub(super) struct WriteAlone {
    /// Why MySQL does not take the batch now.
    pub(super) reason: HoldReason,
    /// One permit for each attempt that such tasks may make at a time.
    pub(super) attempts: Arc<Semaphore>,
}

/// Returns the permits for attempts to write partitions alone.
pub(super) fn attempts(pool: &MySqlPool) -> Arc<Semaphore> {
    let connections = pool.unlimited().options().get_max_connections();
    Arc::new(Semaphore::new((connections / CONNECTION_SHARES).max(1) as usize))
}

/// The task that writes a batch.
#[derive(Debug)]
pub(super) struct BatchTask {
    pub(super) store: BatchCommit,
    pub(super) mysql_retry: MysqlRetry,
    /// Wakes the sender when there is something to send.
    pub(super) wake: Arc<Notify>,
    /// Hear of rows that MySQL rejects.
    pub(super) operators: OperatorEvents,
    /// The time at which the evaluation of the batch began.
    pub(super) begun: Instant,
    /// `None`: the task returns what MySQL does not take, so that the other partitions go on.
    pub(super) alone: Option<WriteAlone>,
}

impl BatchTask {
    /// Writes parts of a batch, one after another.
    pub(super) async fn write(self, parts: Vec<Vec<PartitionBatch>>) -> WriteOutcome {
        let mut written = WriteOutcome {
            begun: self.begun,
            done: Vec::new(),
            fenced: Vec::new(),
            not_taken: Vec::new(),
            released: false,
        };
        let mut parts = VecDeque::from(parts);
        // Each turn removes a partition, splits a part, or writes a partition row by row. So the
        // loop ends.
        while let Some(mut part) = parts.pop_front() {
            match self.commit(&part).await {
                Err(Stopping) => {
                    warn!(
                        "evaluated readings not written at shutdown, their next owner evaluates them again"
                    );
                    written.released = true;
                    break;
                }
                Ok(CommitOutcome::Done(refused)) => {
                    refused.iter().for_each(|row| row.note(&self.operators));
                    part.iter()
                        .for_each(|partition_batch| self.done(partition_batch, &mut written));
                }
                // Retry each partition alone, to find the one whose value MySQL rejects.
                Ok(CommitOutcome::DataError) => {
                    part.into_iter()
                        .rev()
                        .for_each(|partition_batch| parts.push_front(vec![partition_batch]));
                }
                Ok(CommitOutcome::Fenced(at, position)) => {
                    let partition_batch = part.remove(at);
                    match position {
                        // An earlier attempt was committed and only its answer was lost.
                        LedgerPosition::Committed => self.done(&partition_batch, &mut written),
                        LedgerPosition::Lost | LedgerPosition::At(_) => {
                            written.fenced.push((partition_batch.advance, position));
                        }
                    }
                    if !part.is_empty() {
                        parts.push_front(part);
                    }
                }
                Ok(CommitOutcome::NotTaken) => written.not_taken.append(&mut part),
            }
        }
        if written.not_taken.is_empty() {
            histogram!(ALERT_CHECK_SECONDS).record(self.begun.elapsed().as_secs_f64());
        }
        written
    }

    /// Writes a part. If MySQL rejects a value of a single partition, writes the partition row by
    /// row.
    async fn commit(&self, part: &[PartitionBatch]) -> Result<CommitOutcome, Stopping> {
        let operation = match &self.alone {
            Some(alone) => format!("write alerts of partition {}", alone.reason.partition),
            None => "write alerts".to_owned(),
        };
        let whole = || self.attempt(self.store.commit(part));
        let committed = self.mysql_retry.until_done(&operation, whole).await;
        if committed == Ok(CommitOutcome::DataError)
            && let [partition_batch] = part
        {
            let by_row = || self.attempt(self.store.commit_by_row(partition_batch));
            return self.mysql_retry.until_done(&operation, by_row).await;
        }
        committed
    }

    /// Makes one attempt. An error is retried.
    async fn attempt(
        &self,
        commit: impl Future<Output = Result<CommitOutcome, sqlx::Error>>,
    ) -> Result<CommitOutcome, sqlx::Error> {
        let Some(alone) = &self.alone else {
            return match commit.await {
                Err(error) if errors::may_take_others(&error) => {
                    counter!(COMMIT_RETRIES).increment(1);
                    Ok(CommitOutcome::NotTaken)
                }
                committed => committed,
            };
        };
        // Nothing closes the semaphore.
        let _permit = alone.attempts.acquire().await;
        let committed = commit.await;
        let partition = alone.reason.partition;
        let named = |error| format!("partition {partition}: {}", errors::message(error));
        alone.reason.set(committed.as_ref().err().map(named));
        committed
    }

    fn done(&self, partition_batch: &PartitionBatch, written: &mut WriteOutcome) {
        written.done.push(partition_batch.advance);
        if !partition_batch.notifications.is_empty() {
            self.wake.notify_one();
        }
    }
}

/// The batch that is being written, if any.
#[derive(Debug, Default)]
pub(super) struct BackgroundWrite(Option<JoinHandle<WriteOutcome>>);

impl BackgroundWrite {
    /// Starts to write a batch. The batch before must have ended.
    pub(super) fn begin(&mut self, writer: BatchTask, batch: Vec<PartitionBatch>) {
        self.0 = Some(tokio::spawn(writer.write(vec![batch])));
    }

    /// Waits until the batch is written, or for ever if none is being written. The future may be
    /// dropped and the call repeated.
    pub(super) async fn ended(&mut self) -> anyhow::Result<WriteOutcome> {
        let Some(writing) = &mut self.0 else { return std::future::pending().await };
        let written = writing.await;
        self.0 = None;
        written.context("writing a batch ended in a panic")
    }

    /// Whether a batch is being written.
    pub(super) fn is_some(&self) -> bool {
        self.0.is_some()
    }
}
