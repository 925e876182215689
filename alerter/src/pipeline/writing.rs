//! Writes a batch in the background while the next one is evaluated. One batch is written at a
//! time: the next one begins where this one ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use ljwx_ledger::ledger::{Advance, Standing};
use metrics::histogram;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::metrics::ALERT_CHECK_SECONDS;
use crate::mysql::retry::{GaveUp, Hold};
use crate::notify::rejected_rows::Refusals;
use crate::pipeline::commit::{Committed, Store};
use crate::pipeline::partition_batch::Stretch;

/// The outcome of writing a batch.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Partitions whose batch is written.
    pub(super) done: Vec<Advance>,
    /// Partitions whose batch is fenced.
    pub(super) refused: Vec<(Advance, Standing)>,
    /// Whether the rest was released unwritten, because the process has to end.
    pub(super) gave_up: bool,
}

/// The task that writes a batch.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pub(super) store: Store,
    pub(super) hold: Hold,
    /// Wakes the sender when there is something to send.
    pub(super) wake: Arc<Notify>,
    /// Counts rows that MySQL rejects.
    pub(super) refusals: Refusals,
    /// The time at which the evaluation of the batch began.
    pub(super) begun: Instant,
}

impl Writer {
    async fn write(self, batch: Vec<Stretch>) -> Written {
        let mut written = Written::default();
        let mut parts = VecDeque::from([batch]);
        // Each turn removes a partition, splits a part, or writes a partition row by row. So the
        // loop ends.
        while let Some(mut part) = parts.pop_front() {
            let whole = || self.store.commit(&part);
            let mut committed = self.hold.until_done("write alerts", whole).await;
            if committed == Ok(Committed::Invalid)
                && let [stretch] = &part[..]
            {
                let by_row = || self.store.commit_by_row(stretch);
                committed = self.hold.until_done("write alerts", by_row).await;
            }
            match committed {
                Err(GaveUp) => {
                    warn!(
                        "stopping with readings that were judged and not written; they are judged again"
                    );
                    written.gave_up = true;
                    break;
                }
                Ok(Committed::Done(refused)) => {
                    refused.iter().for_each(|row| self.refusals.note(row));
                    part.iter().for_each(|stretch| self.done(stretch, &mut written));
                }
                // Retry each partition alone, to find the one whose value MySQL rejects.
                Ok(Committed::Invalid) => {
                    part.into_iter().rev().for_each(|stretch| parts.push_front(vec![stretch]));
                }
                Ok(Committed::Refused(at, standing)) => {
                    let stretch = part.remove(at);
                    match standing {
                        // An earlier attempt was committed and only its answer was lost.
                        Standing::Committed => self.done(&stretch, &mut written),
                        Standing::Lost | Standing::At(_) => {
                            written.refused.push((stretch.advance, standing));
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

    fn done(&self, stretch: &Stretch, written: &mut Written) {
        written.done.push(stretch.advance);
        if !stretch.notifications.is_empty() {
            self.wake.notify_one();
        }
    }
}

/// The batch that is being written, if any.
#[derive(Debug, Default)]
pub(super) struct Writing(Option<JoinHandle<Written>>);

impl Writing {
    /// Starts to write a batch. The batch before must have ended.
    pub(super) fn begin(&mut self, writer: Writer, batch: Vec<Stretch>) {
        self.0 = Some(tokio::spawn(writer.write(batch)));
    }

    /// Waits until the batch is written, or for ever if none is being written. The future may be
    /// dropped and the call repeated.
    pub(super) async fn ended(&mut self) -> anyhow::Result<Written> {
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
