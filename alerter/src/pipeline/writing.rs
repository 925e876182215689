//! Writes a batch in the background while the next one is evaluated. One batch is written at a
//! time: the next one begins where this one ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use ljwx_ledger::ledger::{Advance, LedgerPosition};
use metrics::histogram;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::metrics::ALERT_CHECK_SECONDS;
use crate::mysql::retry::{MysqlRetry, Stopping};
use crate::notify::rejected_rows::RejectedRows;
use crate::pipeline::commit::{BatchCommit, CommitOutcome};
use crate::pipeline::partition_batch::PartitionBatch;

/// The outcome of writing a batch.
#[derive(Debug, Default)]
pub(super) struct WriteOutcome {
    /// Partitions whose batch is written.
    pub(super) done: Vec<Advance>,
    /// Partitions whose batch is fenced.
    pub(super) fenced: Vec<(Advance, LedgerPosition)>,
    /// Whether the rest was released unwritten, because the process has to end.
    pub(super) released: bool,
}

/// The task that writes a batch.
#[derive(Debug, Clone)]
pub(super) struct BatchTask {
    pub(super) store: BatchCommit,
    pub(super) mysql_retry: MysqlRetry,
    /// Wakes the sender when there is something to send.
    pub(super) wake: Arc<Notify>,
    /// Counts rows that MySQL rejects.
    pub(super) rejected_rows: RejectedRows,
    /// The time at which the evaluation of the batch began.
    pub(super) begun: Instant,
}

impl BatchTask {
    async fn write(self, batch: Vec<PartitionBatch>) -> WriteOutcome {
        let mut written = WriteOutcome::default();
        let mut parts = VecDeque::from([batch]);
        // Each turn removes a partition, splits a part, or writes a partition row by row. So the
        // loop ends.
        while let Some(mut part) = parts.pop_front() {
            let whole = || self.store.commit(&part);
            let mut committed = self.mysql_retry.until_done("write alerts", whole).await;
            if committed == Ok(CommitOutcome::DataError)
                && let [partition_batch] = &part[..]
            {
                let by_row = || self.store.commit_by_row(partition_batch);
                committed = self.mysql_retry.until_done("write alerts", by_row).await;
            }
            match committed {
                Err(Stopping) => {
                    warn!(
                        "evaluated readings not written at shutdown, their next owner evaluates them again"
                    );
                    written.released = true;
                    break;
                }
                Ok(CommitOutcome::Done(refused)) => {
                    refused.iter().for_each(|row| self.rejected_rows.note(row));
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
            }
        }
        histogram!(ALERT_CHECK_SECONDS).record(self.begun.elapsed().as_secs_f64());
        written
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
        self.0 = Some(tokio::spawn(writer.write(batch)));
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
