//! Starts to write batches, and goes on once they are written.
//!
//! If MySQL does not take a batch now, for example because a row is locked, each partition of the
//! batch is written alone. Those that MySQL takes go on at once. The batches of the others are held.
//!
//! [`crate::pipeline::waiting_partitions`] keeps the deliveries behind, and `writing` writes.

use std::iter;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use ljwx_service::heartbeat::Heartbeat;

use super::Pipeline;
use crate::pipeline::partition_batch::PartitionBatch;
use crate::pipeline::waiting_partitions::{Awaited, PartitionClaim};
use crate::pipeline::writing::{BatchTask, WriteAlone, WriteOutcome};

impl Pipeline {
    /// Starts writing a batch once the one before is written, and continues.
    pub(super) async fn commit(
        &mut self,
        mut batch: Vec<PartitionBatch>,
        begun: Instant,
    ) -> anyhow::Result<ControlFlow<()>> {
        for partition_batch in &mut batch {
            let advance = &partition_batch.advance;
            if let Some(position) = self.positions.get_mut(&advance.partition) {
                position.next = advance.to;
            }
            partition_batch.take_state(self.engine.take_changes(advance.partition));
        }
        batch.retain(|partition_batch| !partition_batch.is_empty());
        if batch.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let flow = self.finish_writing(&mut batch).await?;
        // The batch before may have shown that another replica owns some partitions.
        batch.retain(|partition_batch| self.owns(&partition_batch.advance));
        if flow.is_continue() && !batch.is_empty() {
            self.writing.begin(self.batch_task(begun, None), batch);
        }
        Ok(flow)
    }

    /// Waits for the batch that is being written. Takes out of `next` what has to wait behind a batch
    /// that is held from now on.
    pub(super) async fn finish_writing(
        &mut self,
        next: &mut Vec<PartitionBatch>,
    ) -> anyhow::Result<ControlFlow<()>> {
        if !self.writing.is_some() {
            return Ok(ControlFlow::Continue(()));
        }
        let written = self.writing.ended().await?;
        Ok(self.on_written(written, next))
    }

    pub(super) fn on_written(
        &mut self,
        written: WriteOutcome,
        next: &mut Vec<PartitionBatch>,
    ) -> ControlFlow<()> {
        let done = written.done.iter().map(|advance| (advance.partition, advance.to));
        self.parts.source.commit(done);
        for (advance, position) in written.fenced {
            self.fenced(&advance, position);
        }
        for part in written.not_taken {
            self.hold(part, written.begun, next);
        }
        if written.released { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Writes a partition alone until MySQL takes it. What is in `next` of the same partition was
    /// evaluated meanwhile, and is written after it.
    fn hold(&mut self, first: PartitionBatch, begun: Instant, next: &mut Vec<PartitionBatch>) {
        // The partition may have been claimed anew in the meantime.
        if !self.owns(&first.advance) {
            return;
        }
        let (partition, epoch) = (first.advance.partition, first.advance.epoch);
        let of_partition = |one: &PartitionBatch| one.advance.partition == partition;
        let (later, others): (Vec<_>, Vec<_>) = next.drain(..).partition(of_partition);
        next.extend(others);
        let parts = iter::once(first).chain(later).map(|part| vec![part]).collect();
        let alone = WriteAlone {
            reason: self.parts.hold_reasons.of_task(Awaited::HeldBatch, partition),
            attempts: Arc::clone(&self.attempts),
        };
        let writer = self.batch_task(begun, Some(alone));
        self.held.begin((partition, epoch), writer.write(parts));
    }

    /// Returns the task that writes a batch.
    fn batch_task(&self, begun: Instant, alone: Option<WriteAlone>) -> BatchTask {
        let parts = &self.parts;
        let mysql_retry = match &alone {
            // The main loop does not wait for the task, so the task must not speak for the loop.
            Some(_) => parts.mysql_retry.with_heartbeat(Heartbeat::of("held batch")),
            None => parts.mysql_retry.clone(),
        };
        BatchTask {
            store: parts.store.clone(),
            mysql_retry,
            wake: Arc::clone(&parts.wake),
            operators: parts.operators.clone(),
            begun,
            alone,
        }
    }

    /// Goes on with a partition once its held batch is written, or fenced.
    pub(super) async fn on_held_written(
        &mut self,
        claim: PartitionClaim,
        written: WriteOutcome,
    ) -> anyhow::Result<ControlFlow<()>> {
        let behind = self.held.release(claim);
        // The rules may have changed while the partition waited.
        if self.on_written(written, &mut Vec::new()).is_break()
            || self.realign(vec![claim.0]).await?.is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
        self.on_deliveries(vec![behind]).await
    }

    /// Waits until MySQL has taken the held batches, or the process has to end.
    pub(super) async fn finish_held(&mut self) -> anyhow::Result<()> {
        let heartbeat = self.parts.mysql_retry.heartbeat().clone();
        while !self.held.is_empty() {
            let (claim, written) = heartbeat.during(self.held.ended()).await?;
            // Their next owner reads them again.
            drop(self.held.release(claim));
            let _ = self.on_written(written, &mut Vec::new());
        }
        Ok(())
    }
}
