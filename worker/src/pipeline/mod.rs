//! The main loop. `buffer` decides what goes into a batch, and `flush` writes the batch. This
//! module connects them.

pub mod flush;
mod held_batch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ljwx_ledger::group::consumer::GroupConsumer;
use ljwx_ledger::group::delivery::{ConsumerEvent, Revocation};
use ljwx_service::lifecycle::{Deadline, ShutdownStep};
use metrics::gauge;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::batch::buffer::{Buffer, BufferLimits};
use crate::batch::size::{BatchSizer, BatchTiming};
use crate::batch::{Batch, FlushReason, Segment};
use crate::health::Health;
use crate::metrics::{
    BATCH_ROWS_TARGET, BATCHES_IN_FLIGHT_TARGET, BUFFERED, BUFFERED_BYTES, BUFFERED_BYTES_MAX,
};
use crate::mysql::group_control::ConsumptionState;
use crate::pipeline::flush::{Flush, FlushResult, SegmentOutcome};
use crate::redis::repair::RepairHandle;

/// Longest time between two turns of the loop, each of which reports to the health state.
const TURN_INTERVAL: Duration = Duration::from_secs(1);

/// The main loop.
pub struct Pipeline {
    source: GroupConsumer,
    buffer: Buffer,
    flush: Arc<Flush>,
    health: Health,
    adaptive: BatchSizer,
    in_flight: JoinSet<(FlushResult, BatchTiming)>,
    batches_max: usize,
    /// Segments that come back from held batches.
    put_back: (mpsc::UnboundedSender<Segment>, mpsc::UnboundedReceiver<Segment>),
    revoked: Vec<Revocation>,
    repair: RepairHandle,
    consumption_state: watch::Receiver<ConsumptionState>,
}

/// The parts of the main loop.
pub struct PipelineParts {
    /// Consumes the deliveries.
    pub source: GroupConsumer,
    /// Writes the batches.
    pub flush: Flush,
    /// The repair of Redis, which runs beside the loop.
    pub repair: RepairHandle,
    /// The limits of the buffer.
    pub limits: BufferLimits,
    /// Adapts size and wait within the limits.
    pub adaptive: BatchSizer,
    /// Most batches in flight, held ones included.
    pub batches_max: usize,
    /// Whether deliveries may be taken in.
    pub consumption_state: watch::Receiver<ConsumptionState>,
}

/// The way in which the loop ended.
#[derive(Debug, PartialEq, Eq)]
pub enum StopReason {
    /// All deliveries in memory were written.
    Drained,
    /// The deadline came first. The next owner of the partitions reads the unwritten deliveries
    /// again.
    OutOfTime,
}

impl Pipeline {
    /// Creates the loop from its parts.
    pub fn new(parts: PipelineParts) -> Self {
        let PipelineParts {
            source,
            flush,
            repair,
            limits,
            adaptive,
            batches_max,
            consumption_state,
        } = parts;
        gauge!(BUFFERED_BYTES_MAX).set(limits.room.max.bytes as f64);
        let mut buffer = Buffer::new(limits);
        buffer.tune(adaptive.rows(), adaptive.linger(), adaptive.fast_linger());
        Self {
            source,
            buffer,
            health: flush.health.clone(),
            flush: Arc::new(flush),
            adaptive,
            in_flight: JoinSet::new(),
            batches_max,
            put_back: mpsc::unbounded_channel(),
            revoked: Vec::new(),
            repair,
            consumption_state,
        }
    }

    /// Runs until `stop`, then drains and leaves the group, each within its share of `deadline`. An
    /// error stops the process as well.
    pub async fn run(
        mut self,
        deadline: &Deadline,
        stop: &CancellationToken,
    ) -> anyhow::Result<StopReason> {
        if let Err(error) = self.turn_until(stop).await {
            // Start the time limit for leaving the group.
            stop.cancel();
            self.in_flight.shutdown().await;
            self.source.close(deadline).await;
            return Err(error);
        }
        self.health.draining();
        info!(deliveries = self.buffer.load().deliveries, "draining");
        let end = match deadline.within(ShutdownStep::Drain, self.drain()).await {
            Some(()) => StopReason::Drained,
            None => {
                warn!(
                    deliveries = self.buffer.load().deliveries,
                    "deliveries not drained in time, their next owner reads them again"
                );
                self.in_flight.shutdown().await;
                StopReason::OutOfTime
            }
        };
        self.source.close(deadline).await;
        Ok(end)
    }

    /// Turns until `stop`. Deliveries that the consumer still holds then are read again later.
    async fn turn_until(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        loop {
            self.start_due_batches();
            let now = Instant::now();
            let next_turn = now + TURN_INTERVAL;
            let may_start = self.in_flight.len() < self.places();
            let wake = self
                .buffer
                .due_at()
                .filter(|_| may_start)
                .map_or(next_turn, |due| due.min(next_turn));
            self.source.hold_back(self.buffer.full_lanes(now));
            let admit = self.buffer.has_room(now)
                && *self.consumption_state.borrow() == ConsumptionState::Running;
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Some(segment) = self.put_back.1.recv() => self.buffer.put_back(segment, now),
                Some(done) = self.in_flight.join_next() => self.done(done?),
                Some(then) = self.repair.repaired.recv() => self.buffer.repaired(&then),
                Ok(()) = self.consumption_state.changed() => self.check_consumption_state()?,
                event = self.source.next(admit) => match event {
                    ConsumerEvent::Closed if stop.is_cancelled() => return Ok(()),
                    ConsumerEvent::Closed => anyhow::bail!("the consumer ended without being told to"),
                    event => self.event(event)?,
                },
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            self.release_revoked();
            self.repair.lanes.send_replace(self.buffer.views());
            self.health.turned(self.buffer.partitions(), self.buffer.oldest_ms());
            self.health.unclaimed(self.source.unclaimed());
            let load = self.buffer.load();
            gauge!(BUFFERED).set(load.deliveries as f64);
            gauge!(BUFFERED_BYTES).set(load.bytes as f64);
        }
    }

    fn check_consumption_state(&self) -> anyhow::Result<()> {
        match &*self.consumption_state.borrow() {
            ConsumptionState::Blocked(reason) => anyhow::bail!("{reason}"),
            ConsumptionState::Paused(reason) => {
                info!(reason, "consumption paused by command, `worker resume` resumes it")
            }
            ConsumptionState::Running => info!("consumption running"),
            ConsumptionState::Unknown => {}
        }
        Ok(())
    }

    fn event(&mut self, event: ConsumerEvent) -> anyhow::Result<()> {
        match event {
            ConsumerEvent::Assigned(claims) => {
                self.health.joined();
                if !claims.is_empty() {
                    // The database may have been restored: it then lacks documents that were stored.
                    self.flush.store.forget_documents();
                    self.flush.bindings.forget();
                }
                for claim in claims {
                    // The partition came back before it was drained. Writes of its former claim are
                    // fenced.
                    for revocation in &mut self.revoked {
                        revocation.partitions.retain(|partition| *partition != claim.partition);
                    }
                    self.buffer.open(claim);
                }
            }
            ConsumerEvent::Deliveries(deliveries) => {
                let now = Instant::now();
                for delivery in deliveries {
                    let origin = delivery.origin.sampled();
                    self.buffer.insert(delivery, origin, now);
                }
            }
            ConsumerEvent::Revoked(revocation) if revocation.lost => {
                self.buffer.forget(&revocation.partitions)
            }
            ConsumerEvent::Revoked(revocation) => self.revoked.push(revocation),
            ConsumerEvent::Failed(reason) => anyhow::bail!("the consumer cannot go on: {reason}"),
            ConsumerEvent::Closed => {}
        }
        Ok(())
    }

    /// Returns the most batches in flight now. A held batch leaves its place to another one, as long
    /// as connections are left.
    fn places(&self) -> usize {
        (self.adaptive.in_flight() + self.health.held_batches()).min(self.batches_max)
    }

    fn start_due_batches(&mut self) {
        let now = Instant::now();
        let leaving: Vec<i32> =
            self.revoked.iter().flat_map(|revocation| revocation.partitions.clone()).collect();
        if !leaving.is_empty() {
            // The next owner waits for these partitions, so ignore the limit of batches in flight.
            while self.start(FlushReason::Revoked, |buffer| buffer.take_partitions(&leaving, now)) {
            }
        }
        while self.in_flight.len() < self.places() {
            let Some(reason) = self.buffer.due(now) else { return };
            if !self.start(reason, |buffer| buffer.take(now)) {
                return;
            }
        }
    }

    fn start(
        &mut self,
        reason: FlushReason,
        take: impl FnOnce(&mut Buffer) -> Vec<Segment>,
    ) -> bool {
        let segments = take(&mut self.buffer);
        if segments.is_empty() {
            return false;
        }
        let batch = Batch { id: Uuid::new_v4().to_string(), reason, segments };
        let (flush, put_back) = (Arc::clone(&self.flush), self.put_back.0.clone());
        self.in_flight.spawn(async move {
            let (started, records) = (Instant::now(), batch.records());
            let full = matches!(reason, FlushReason::Rows | FlushReason::Bytes);
            let flushed = flush.flush(batch, put_back).await;
            (flushed, BatchTiming { records, took: started.elapsed(), full })
        });
        true
    }

    fn done(&mut self, (flushed, sample): (FlushResult, BatchTiming)) {
        self.adaptive.note(Instant::now(), sample);
        let adaptive = &self.adaptive;
        self.buffer.tune(adaptive.rows(), adaptive.linger(), adaptive.fast_linger());
        gauge!(BATCH_ROWS_TARGET).set(self.adaptive.rows() as f64);
        gauge!(BATCHES_IN_FLIGHT_TARGET).set(self.adaptive.in_flight() as f64);
        self.flushed(flushed);
    }

    fn flushed(&mut self, flushed: FlushResult) {
        let mut committed = Vec::with_capacity(flushed.len());
        for (partition, epoch, outcome) in flushed {
            match outcome {
                SegmentOutcome::Written { to, in_redis } => {
                    self.buffer.written(partition, epoch, to, in_redis);
                    committed.push((partition, to));
                }
                SegmentOutcome::Fenced => {
                    self.buffer.forget_claim(partition, epoch);
                    self.source.claim_again(partition, epoch);
                }
            }
        }
        self.source.commit(committed);
    }

    /// Releases revoked partitions that are drained. Dropping a revocation reports the release.
    fn release_revoked(&mut self) {
        let buffer = &mut self.buffer;
        self.revoked.retain(|revocation| {
            let drained = buffer.is_drained(&revocation.partitions);
            if drained {
                buffer.forget(&revocation.partitions);
            }
            !drained
        });
    }

    /// Writes all deliveries in memory.
    async fn drain(&mut self) {
        let all = self.buffer.partitions();
        loop {
            let now = Instant::now();
            while self.in_flight.len() < self.places()
                && self.start(FlushReason::Shutdown, |buffer| buffer.take_partitions(&all, now))
            {
            }
            tokio::select! {
                biased;
                Some(segment) = self.put_back.1.recv() => self.buffer.put_back(segment, now),
                done = self.in_flight.join_next() => match done {
                    None => return,
                    Some(Ok(done)) => self.done(done),
                    Some(Err(error)) => warn!(%error, "cannot finish batch while draining"),
                },
                // A batch that is held by now leaves its place to another one.
                () = tokio::time::sleep(TURN_INTERVAL) => {}
            }
        }
    }
}
