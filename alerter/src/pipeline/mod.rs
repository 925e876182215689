//! The main loop: deliveries in, one transaction out.
//!
//! Decides when to act. [`dead_letters`] takes out what is no reading. `deliveries` and `clock_tick`
//! collect what to write. [`crate::engine`] evaluates readings, [`transition_rows`]
//! builds the rows of a transition, `batches` starts to write them, and [`commit`] writes them.

mod batches;
mod clock_tick;
pub mod commit;
pub mod dead_letters;
mod deliveries;
pub mod owed;
pub mod partition_batch;
mod reading_counts;
mod route_transition;
pub mod shared_state;
pub mod transition_rows;
pub mod waiting_partitions;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::bail;
use ljwx_ledger::group::consumer::GroupConsumer;
use ljwx_ledger::group::delivery::{ConsumerEvent, DeliveryLoad};
use ljwx_ledger::group::settings::DeliveryMemory;
use ljwx_ledger::ledger::{Advance, Claim};
use ljwx_reading::DeviceSn;
use ljwx_service::lifecycle::ShutdownStep;
use metrics::gauge;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, timeout};
use tracing::{info, warn};

use crate::engine::Engine;
use crate::engine::no_data::counted_time::CountedTime;
use crate::metrics::{EPISODES_OPEN, RULE_STATES};
use crate::mysql::retry::Stopping;
use crate::mysql::state_rows;
use crate::pipeline::dead_letters::DeadLetters;
use crate::pipeline::partition_batch::PartitionBatch;
use crate::pipeline::shared_state::SharedState;
use reading_counts::{ClockWatch, ReadingCounts};
use waiting_partitions::WaitingPartitions;
use writing::{BatchWriter, WriteOutcome};

/// Interval at which open episodes are counted, because counting visits every device.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);

/// Interval at which missing data is checked that no record shows, and what is owed.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);

/// Interval at which missing devices are looked up that belong to no one any more.
const UNBOUND_INTERVAL: Duration = Duration::from_secs(30);

/// Longest wait at an assignment for the accepted number of partitions. Unknown, it is taken to be
/// that of the topic.
const PARTITIONS_KNOWN_WITHIN: Duration = Duration::from_secs(10);

/// Deliveries from which a transaction takes no more. As many can wait while it is evaluated. Once
/// as many wait behind dead letters, or behind held batches, their partitions are paused.
pub const DELIVERIES_MAX: usize = 16_384;

/// Statements from which a transaction takes no more. A transaction has a time limit
/// (`--mysql-statement-timeout`), and one that takes longer would fail at every attempt.
const STATEMENTS_MAX: usize = 4_096;

/// Parts of the pipeline's memory: for the deliveries of a transaction, and for those that wait
/// behind dead letters and behind held batches.
const MEMORY_PARTS: usize = 3;

/// The running loop.
pub struct Pipeline {
    source: GroupConsumer,
    dead_letters: DeadLetters,
    engine: Engine,
    shared: SharedState,
    /// The owned partitions, each with the next offset to evaluate.
    positions: BTreeMap<i32, Claim>,
    counts: ReadingCounts,
    clocks: ClockWatch,
    /// The last time at which devices were forgotten.
    forgot_at: Instant,
    /// The missing device of each partition whose user was looked up last.
    asked_unbound: BTreeMap<i32, DeviceSn>,
    /// Tenants and channels without an account that have been logged.
    unserved: BTreeSet<(i64, &'static str)>,
    writer: BatchWriter,
    /// The batch that is being written, if any.
    writing: JoinSet<WriteOutcome>,
    /// Partitions whose batch is held. The next results of each wait for it.
    held: WaitingPartitions<WriteOutcome>,
    /// The deliveries that a transaction takes, and those that wait behind others.
    room: DeliveryLoad,
}

impl Pipeline {
    /// A loop that owns no partition yet, with an `engine` without partitions.
    pub fn new(
        source: GroupConsumer,
        dead_letters: DeadLetters,
        engine: Engine,
        memory: DeliveryMemory,
        shared: SharedState,
    ) -> Self {
        let bytes = memory.pipeline / MEMORY_PARTS;
        Self {
            source,
            dead_letters,
            engine,
            positions: BTreeMap::new(),
            counts: ReadingCounts::default(),
            clocks: ClockWatch::new(shared.operators.clone()),
            forgot_at: Instant::now(),
            asked_unbound: BTreeMap::new(),
            unserved: BTreeSet::new(),
            writer: BatchWriter::new(&shared),
            writing: JoinSet::new(),
            held: WaitingPartitions::new(),
            room: DeliveryLoad { deliveries: DELIVERIES_MAX, bytes },
            shared,
        }
    }

    /// Runs until the process has to end. Then settles the last batch and leaves the group, each
    /// within its share of the deadline.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let deadline = self.shared.deadline.clone();
        let ended = deadline.within(ShutdownStep::Drain, self.turn()).await.unwrap_or_else(|| {
            warn!("batch unfinished at shutdown, its next owner evaluates it again");
            Ok(())
        });
        // A loop that failed stops the process as a signal does.
        self.shared.stop.cancel();
        // Close after a failure too: dropping the consumer revokes its partitions on this thread,
        // which must not block.
        self.source.close(&deadline).await;
        ended
    }

    /// Runs the loop. Deliveries still in the source at the end stay there, and are read again.
    async fn turn(&mut self) -> anyhow::Result<()> {
        self.take_rules();
        let mut measure = tokio::time::interval(MEASURE_INTERVAL);
        let mut clock = tokio::time::interval(CLOCK_INTERVAL);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unbound = tokio::time::interval(UNBOUND_INTERVAL);
        unbound.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.shared.mysql_retry.heartbeat().turn();
            let accepted = self.shared.counted_time.borrow().has_accepted_partitions;
            self.engine.set_absence_evaluated(accepted != Some(false));
            let letters = self.dead_letters.waiting.full(self.room);
            self.source.hold_back(&letters | &self.held.full(self.room));
            let turned = tokio::select! {
                () = self.shared.stop.cancelled() => Err(Stopping.into()),
                event = self.source.next(true) => self.on_event(event).await,
                confirmed = self.dead_letters.waiting.ended() => {
                    self.on_confirmed(confirmed?).await
                }
                Some(written) = self.writing.join_next() => {
                    self.on_written(written?, &mut Vec::new())
                }
                written = self.held.ended() => self.on_held_written(written?).await,
                Ok(()) = self.shared.rules.changed() => {
                    self.take_rules();
                    self.realign(self.engine.partitions()).await
                }
                _ = clock.tick() => self.on_clock_tick().await,
                _ = unbound.tick() => self.on_unbound_tick().await,
                _ = measure.tick() => {
                    self.measure();
                    Ok(())
                }
            };
            if !goes_on(turned)? {
                break;
            }
        }
        // Settle the batch evaluated last. If it was released, that has been logged.
        goes_on(self.finish_writing(&mut Vec::new()).await)?;
        self.finish_held().await
    }

    async fn on_event(&mut self, event: ConsumerEvent) -> anyhow::Result<()> {
        match event {
            ConsumerEvent::Assigned(claims) => self.on_assigned(&claims).await,
            ConsumerEvent::Deliveries(deliveries) => {
                let chunks = self.with_waiting(deliveries);
                let chunks = self.hold_back(chunks);
                self.on_deliveries(chunks).await
            }
            ConsumerEvent::Revoked(revocation) => {
                self.finish_writing(&mut Vec::new()).await?;
                // A held batch is dropped: its partition's next owner evaluates it again.
                revocation.partitions.iter().for_each(|partition| self.forget(*partition));
                drop(revocation);
                Ok(())
            }
            ConsumerEvent::Closed if self.shared.stop.is_cancelled() => Err(Stopping.into()),
            ConsumerEvent::Closed => bail!("the consumer ended without being asked to"),
            ConsumerEvent::Failed(reason) => bail!("the consumer cannot go on: {reason}"),
        }
    }

    /// Loads a partition's state before its first reading is evaluated.
    async fn on_assigned(&mut self, claims: &[Claim]) -> anyhow::Result<()> {
        // Otherwise the first records could show devices as missing that have moved.
        let is_known = |time: &CountedTime| time.has_accepted_partitions.is_some();
        let mut counted_time = self.shared.counted_time.subscribe();
        tokio::select! {
            () = self.shared.stop.cancelled() => return Err(Stopping.into()),
            known = timeout(PARTITIONS_KNOWN_WITHIN, counted_time.wait_for(is_known)) => drop(known),
        }
        self.shared.bindings.forget();
        for claim in claims {
            let Claim { partition, next_offset, .. } = *claim;
            let load = || state_rows::load(self.writer.ledger.pool(), partition);
            let stored = self.shared.mysql_retry.until_done("load alert state", load).await?;
            // What a lost claim of the partition holds back is read again under this one.
            self.forget(partition);
            info!(partition, devices = stored.devices.len(), next_offset, "alert state loaded");
            self.engine.load(partition, stored);
            self.positions.insert(partition, *claim);
        }
        self.realign(claims.iter().map(|claim| claim.partition).collect()).await
    }

    fn take_rules(&mut self) {
        if let Some(rules) = self.shared.rules.borrow_and_update().clone() {
            self.engine.set_rules(rules);
            self.unserved.clear();
        }
    }

    /// Closes the episodes of rules that are no longer active.
    async fn realign(&mut self, partitions: Vec<i32>) -> anyhow::Result<()> {
        let (begun, mut batch) = (Instant::now(), Vec::new());
        for partition in partitions {
            let Some(mut partition_batch) = self.partition_batch(partition) else { continue };
            for change in self.engine.realign(partition) {
                partition_batch.supersede(&change);
            }
            self.add_part(&mut batch, partition_batch, begun).await?;
        }
        self.commit(batch, begun).await
    }

    /// Returns an empty batch of an owned partition, which begins at the partition's position.
    /// `None` also while the partition's batch is held.
    fn partition_batch(&self, partition: i32) -> Option<PartitionBatch> {
        let Claim { epoch, next_offset, .. } = *self.positions.get(&partition)?;
        let is_held = self.held.waits((partition, epoch));
        (!is_held).then(|| PartitionBatch::new(partition, epoch, next_offset))
    }

    fn measure(&self) {
        for (severity, open) in self.engine.open_episodes() {
            gauge!(EPISODES_OPEN, "severity" => severity.as_str()).set(open as f64);
        }
        gauge!(RULE_STATES).set(self.engine.states() as f64);
        self.shared.owed.send_replace(owed::measure(self.engine.owed()));
    }

    fn owns(&self, advance: &Advance) -> bool {
        self.positions.get(&advance.partition).is_some_and(|at| at.epoch == advance.epoch)
    }

    fn forget(&mut self, partition: i32) {
        self.engine.forget(partition);
        self.dead_letters.waiting.forget(partition);
        self.held.forget(partition);
        self.positions.remove(&partition);
    }
}

/// Whether the loop goes on. Another error than [`Stopping`] ends the process.
fn goes_on(turned: anyhow::Result<()>) -> anyhow::Result<bool> {
    match turned {
        Err(error) if error.is::<Stopping>() => Ok(false),
        turned => turned.map(|()| true),
    }
}
