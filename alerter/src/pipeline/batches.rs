//! Starts to write batches, and goes on once they are written.
//!
//! If MySQL does not take a batch now, for example because a row is locked, each partition of the
//! batch is written alone. Those that MySQL takes go on at once. The batches of the others are held.
//!
//! [`crate::pipeline::waiting_partitions`] keeps the deliveries behind, and `writing` writes.

use std::iter;
use std::time::Instant;

use ljwx_ledger::ledger::{Advance, LedgerPosition};
use tracing::warn;

use super::{Pipeline, STATEMENTS_MAX};
use crate::mysql::retry::Stopping;
use crate::pipeline::partition_batch::PartitionBatch;
use crate::pipeline::waiting_partitions::{Awaited, PartitionClaim};
use crate::pipeline::writing::WriteOutcome;

impl Pipeline {
    /// Starts writing a batch once the one before is written, and continues.
    pub(super) async fn commit(
        &mut self,
        mut batch: Vec<PartitionBatch>,
        begun: Instant,
    ) -> anyhow::Result<()> {
        for partition_batch in &mut batch {
            let Advance { partition, to, .. } = partition_batch.advance;
            if let Some(position) = self.positions.get_mut(&partition) {
                position.next_offset = to;
            }
            partition_batch.take_state(self.engine.take_changes(partition));
        }
        batch.retain(|partition_batch| !partition_batch.is_empty());
        if batch.is_empty() {
            return Ok(());
        }
        self.finish_writing(&mut batch).await?;
        // The batch before may have shown that another replica owns some partitions.
        batch.retain(|partition_batch| self.owns(&partition_batch.advance));
        if !batch.is_empty() {
            self.writing.spawn(self.writer.clone().write(begun, vec![batch], None));
        }
        Ok(())
    }

    /// Adds a part to a batch. Starts writing a batch that has as many statements as a transaction
    /// takes, and empties it.
    pub(super) async fn add_part(
        &mut self,
        batch: &mut Vec<PartitionBatch>,
        part: PartitionBatch,
        begun: Instant,
    ) -> anyhow::Result<()> {
        batch.push(part);
        let statements: usize = batch.iter().map(PartitionBatch::statements).sum();
        if statements < STATEMENTS_MAX {
            return Ok(());
        }
        self.commit(std::mem::take(batch), begun).await
    }

    /// Waits for the batch that is being written, if any. Takes out of `next` what has to wait behind
    /// a batch that is held from now on.
    pub(super) async fn finish_writing(
        &mut self,
        next: &mut Vec<PartitionBatch>,
    ) -> anyhow::Result<()> {
        let heartbeat = self.shared.mysql_retry.heartbeat().clone();
        match heartbeat.during(self.writing.join_next()).await {
            Some(written) => self.on_written(written?, next),
            None => Ok(()),
        }
    }

    /// Goes on with the partitions whose batch is written, and gives up those that are fenced.
    pub(super) fn on_written(
        &mut self,
        written: WriteOutcome,
        next: &mut Vec<PartitionBatch>,
    ) -> anyhow::Result<()> {
        let settled = written.settled.iter();
        let done = settled.filter(|(_, position)| *position == LedgerPosition::Committed);
        self.source.commit(done.map(|(advance, _)| (advance.partition, advance.to)));
        for (advance, position) in written.settled {
            // The partition may have been revoked in the meantime, or claimed anew.
            if position != LedgerPosition::Committed && self.owns(&advance) {
                let Advance { partition, epoch, .. } = advance;
                warn!(
                    partition,
                    ?position,
                    "partition fenced, claiming it again while Kafka assigns it"
                );
                // Only a new claim shows where to continue.
                self.forget(partition);
                self.source.claim_again(partition, epoch);
            }
        }
        for part in written.not_taken {
            self.hold(part, written.begun, next);
        }
        if written.released { Err(Stopping.into()) } else { Ok(()) }
    }

    /// Writes a partition alone until MySQL takes it. What is in `next` of the same partition was
    /// evaluated meanwhile, and is written after it.
    fn hold(&mut self, first: PartitionBatch, begun: Instant, next: &mut Vec<PartitionBatch>) {
        // The partition may have been claimed anew in the meantime.
        if !self.owns(&first.advance) {
            return;
        }
        let Advance { partition, epoch, .. } = first.advance;
        let later = next.extract_if(.., |one| one.advance.partition == partition);
        let parts = iter::once(first).chain(later).map(|part| vec![part]).collect();
        let reason = self.shared.hold_reasons.of_task(Awaited::HeldBatch, partition);
        self.held.begin((partition, epoch), self.writer.clone().write(begun, parts, Some(reason)));
    }

    /// Goes on with a partition once its held batch is written, or fenced.
    pub(super) async fn on_held_written(
        &mut self,
        (claim, written): (PartitionClaim, WriteOutcome),
    ) -> anyhow::Result<()> {
        let behind = self.held.release(claim);
        self.on_written(written, &mut Vec::new())?;
        // The rules may have changed while the partition waited.
        self.realign(vec![claim.0]).await?;
        self.on_deliveries(vec![behind]).await
    }

    /// Waits until MySQL has taken the held batches, or the process has to end.
    pub(super) async fn finish_held(&mut self) -> anyhow::Result<()> {
        let heartbeat = self.shared.mysql_retry.heartbeat().clone();
        while !self.held.is_empty() {
            let (claim, written) = heartbeat.during(self.held.ended()).await?;
            // Their next owner reads them again.
            drop(self.held.release(claim));
            let _ = self.on_written(written, &mut Vec::new());
        }
        Ok(())
    }
}
