//! The main loop: deliveries in, one transaction out.
//!
//! Decides when to act. [`dead_letters`] takes out what is no reading. `deliveries` and `clock_tick`
//! collect what to write. [`crate::engine`] evaluates readings, [`transition_rows`]
//! builds the rows of a transition, `batches` starts to write them, and [`commit`] writes them.

pub mod alert_span;
mod batches;
mod clock_tick;
mod clock_watch;
pub mod commit;
pub mod dead_letters;
mod deliveries;
pub mod owed;
pub mod partition_batch;
mod reading_counts;
mod route_transition;
pub mod transition_rows;
pub mod waiting_partitions;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use jiff::tz::TimeZone;
use ljwx_ledger::device_bindings::DeviceBindings;
use ljwx_ledger::group::consumer::GroupConsumer;
use ljwx_ledger::group::delivery::{ConsumerEvent, DeliveryLoad};
use ljwx_ledger::group::settings::DeliveryMemory;
use ljwx_ledger::ledger::{Advance, Claim, LedgerPosition};
use ljwx_reading::DeviceSn;
use ljwx_service::lifecycle::{Deadline, ShutdownStep};
use metrics::gauge;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::engine::no_data::counted_time::CountedTime;
use crate::engine::{DeviceLimits, Engine};
use crate::metrics::{EPISODES_OPEN, RULE_STATES};
use crate::mysql::retry::MysqlRetry;
use crate::mysql::state_rows;
use crate::notify::limits::AccountLimits;
use crate::notify::operator_events::OperatorEvents;
use crate::notify::recipients::Directory;
use crate::notify::silences::ActiveSilences;
use crate::pipeline::commit::BatchCommit;
use crate::pipeline::dead_letters::DeadLetters;
use crate::pipeline::partition_batch::PartitionBatch;
use crate::rules::index::RuleSet;
use clock_watch::ClockWatch;
use owed::OwedMeasurement;
use reading_counts::ReadingCounts;
use waiting_partitions::{HoldReasons, WaitingPartitions};
use writing::{BackgroundWrite, WriteOutcome};

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

/// Parts of the pipeline's memory: for the deliveries of a transaction, and for those that wait
/// behind dead letters and behind held batches.
const MEMORY_PARTS: usize = 3;

/// The parts of the loop.
pub struct PipelineParts {
    /// The source of deliveries.
    pub source: GroupConsumer,
    /// Holds back partitions whose dead letters are not confirmed.
    pub dead_letters: DeadLetters,
    /// Writes the batches.
    pub store: BatchCommit,
    /// Why MySQL does not take held batches, and Kafka dead letters.
    pub hold_reasons: HoldReasons,
    /// The memory for deliveries.
    pub memory: DeliveryMemory,
    /// The bindings, for devices whose readings carry no ids.
    pub bindings: DeviceBindings,
    /// Finds the recipients.
    pub directory: Arc<Directory>,
    /// The limits of the accounts, by which the sender sends.
    pub accounts: Arc<AccountLimits>,
    /// Receives what is owed.
    pub owed: watch::Sender<OwedMeasurement>,
    /// The wall time that counts for missing data.
    pub counted_time: watch::Receiver<CountedTime>,
    /// The active rules, which have been read at least once.
    pub rules: watch::Receiver<Option<Arc<RuleSet>>>,
    /// The silences in effect, which have been read at least once.
    pub silences: ActiveSilences,
    /// Retries operations during an outage of MySQL.
    pub mysql_retry: MysqlRetry,
    /// Cancelled when the process has to end.
    pub stop: CancellationToken,
    /// The time until which the process has to end.
    pub deadline: Deadline,
    /// Wakes the sender when there is something to send.
    pub wake: Arc<Notify>,
    /// The topic, as spans name it.
    pub topic: String,
    /// The zone in which NO_DATA alerts are dated.
    pub zone: TimeZone,
    /// How many devices are remembered, and for how long.
    pub devices: DeviceLimits,
    /// The channel to the operators.
    pub operators: OperatorEvents,
}

/// The position of an owned partition.
#[derive(Debug, Clone, Copy)]
struct PartitionPosition {
    epoch: i64,
    /// The next offset to evaluate.
    next: i64,
}

/// The running loop.
pub struct Pipeline {
    parts: PipelineParts,
    engine: Engine,
    positions: BTreeMap<i32, PartitionPosition>,
    counts: ReadingCounts,
    clocks: ClockWatch,
    /// The last time at which devices were forgotten.
    forgot_at: Instant,
    /// The missing device of each partition whose user was looked up last.
    asked_unbound: BTreeMap<i32, DeviceSn>,
    /// Tenants and channels without an account that have been logged.
    unserved: BTreeSet<(i64, &'static str)>,
    writing: BackgroundWrite,
    /// Partitions whose batch is held. The next results of each wait for it.
    held: WaitingPartitions<WriteOutcome>,
    /// Permits for attempts to write held batches.
    attempts: Arc<Semaphore>,
    /// The deliveries that a transaction takes, and those that wait behind others.
    room: DeliveryLoad,
}

impl Pipeline {
    /// A loop that owns no partition yet.
    pub fn new(parts: PipelineParts) -> Self {
        let bytes = parts.memory.pipeline / MEMORY_PARTS;
        Self {
            engine: Engine::new(parts.zone.clone(), parts.devices),
            clocks: ClockWatch::new(parts.operators.clone()),
            forgot_at: Instant::now(),
            asked_unbound: BTreeMap::new(),
            positions: BTreeMap::new(),
            counts: ReadingCounts::default(),
            unserved: BTreeSet::new(),
            writing: BackgroundWrite::default(),
            held: WaitingPartitions::new(),
            attempts: writing::attempts(parts.store.pool()),
            room: DeliveryLoad { deliveries: DELIVERIES_MAX, bytes },
            parts,
        }
    }

    /// Runs until the process has to end. Then settles the last batch and leaves the group, each
    /// within its share of the deadline.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let deadline = self.parts.deadline.clone();
        let ended = deadline.within(ShutdownStep::Drain, self.turn()).await.unwrap_or_else(|| {
            warn!("batch unfinished at shutdown, its next owner evaluates it again");
            Ok(())
        });
        // A loop that failed stops the process as a signal does.
        self.parts.stop.cancel();
        // Close after a failure too: dropping the consumer revokes its partitions on this thread,
        // which must not block.
        self.parts.source.close(&deadline).await;
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
            self.parts.mysql_retry.heartbeat().turn();
            let accepted = self.parts.counted_time.borrow().has_accepted_partitions;
            self.engine.set_absence_judged(accepted != Some(false));
            let letters = self.parts.dead_letters.waiting.full(self.room);
            self.parts.source.hold_back(&letters | &self.held.full(self.room));
            let flow = tokio::select! {
                () = self.parts.stop.cancelled() => ControlFlow::Break(()),
                event = self.parts.source.next(true) => self.on_event(event).await?,
                confirmed = self.parts.dead_letters.waiting.ended() => {
                    let (claim, deliveries) = confirmed?;
                    self.on_confirmed(claim, deliveries).await?
                }
                written = self.writing.ended() => self.on_written(written?, &mut Vec::new()),
                written = self.held.ended() => {
                    let (claim, written) = written?;
                    self.on_held_written(claim, written).await?
                }
                Ok(()) = self.parts.rules.changed() => self.on_rules().await?,
                _ = clock.tick() => self.on_clock_tick().await?,
                _ = unbound.tick() => self.on_unbound_tick().await?,
                _ = measure.tick() => {
                    self.measure();
                    ControlFlow::Continue(())
                }
            };
            if flow.is_break() {
                break;
            }
        }
        // Settle the batch evaluated last. If it was released, that has been logged.
        let _ = self.finish_writing(&mut Vec::new()).await?;
        self.finish_held().await
    }

    async fn on_event(&mut self, event: ConsumerEvent) -> anyhow::Result<ControlFlow<()>> {
        match event {
            ConsumerEvent::Assigned(claims) => self.on_assigned(&claims).await,
            ConsumerEvent::Deliveries(deliveries) => {
                let chunks = self.with_waiting(deliveries);
                let chunks = self.hold_back(chunks);
                self.on_deliveries(chunks).await
            }
            ConsumerEvent::Revoked(revocation) => {
                if self.finish_writing(&mut Vec::new()).await?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                // A held batch is dropped: its partition's next owner evaluates it again.
                revocation.partitions.iter().for_each(|partition| self.forget(*partition));
                drop(revocation);
                Ok(ControlFlow::Continue(()))
            }
            ConsumerEvent::Closed if self.parts.stop.is_cancelled() => Ok(ControlFlow::Break(())),
            ConsumerEvent::Closed => bail!("the consumer ended without being asked to"),
            ConsumerEvent::Failed(reason) => bail!("the consumer cannot go on: {reason}"),
        }
    }

    /// Loads a partition's state before its first reading is evaluated.
    async fn on_assigned(&mut self, claims: &[Claim]) -> anyhow::Result<ControlFlow<()>> {
        // Otherwise the first records could show devices as missing that have moved.
        let is_known = |time: &CountedTime| time.has_accepted_partitions.is_some();
        let known = self.parts.counted_time.wait_for(is_known);
        tokio::select! {
            () = self.parts.stop.cancelled() => return Ok(ControlFlow::Break(())),
            known = timeout(PARTITIONS_KNOWN_WITHIN, known) => drop(known),
        }
        for claim in claims {
            let PipelineParts { mysql_retry, store, .. } = &self.parts;
            let load = mysql_retry
                .until_done("load alert state", || state_rows::load(store.pool(), claim.partition));
            let Ok(stored) = load.await else { return Ok(ControlFlow::Break(())) };
            // What a lost claim of the partition holds back is read again under this one.
            self.forget(claim.partition);
            let (partition, next_offset) = (claim.partition, claim.next_offset);
            info!(partition, devices = stored.devices.len(), next_offset, "alert state loaded");
            self.engine.load(partition, stored);
            self.positions
                .insert(partition, PartitionPosition { epoch: claim.epoch, next: next_offset });
        }
        self.realign(claims.iter().map(|claim| claim.partition).collect()).await
    }

    async fn on_rules(&mut self) -> anyhow::Result<ControlFlow<()>> {
        self.take_rules();
        self.realign(self.engine.partitions()).await
    }

    fn take_rules(&mut self) {
        if let Some(rules) = self.parts.rules.borrow_and_update().clone() {
            self.engine.set_rules(rules);
            self.unserved.clear();
        }
    }

    /// Closes the episodes of rules that are no longer active.
    async fn realign(&mut self, partitions: Vec<i32>) -> anyhow::Result<ControlFlow<()>> {
        let (begun, mut batch) = (Instant::now(), Vec::new());
        for partition in partitions {
            let Some(mut partition_batch) = self.partition_batch(partition) else { continue };
            for change in self.engine.realign(partition) {
                partition_batch.supersede(&change);
            }
            batch.push(partition_batch);
        }
        self.commit(batch, begun).await
    }

    /// Returns an empty batch of an owned partition, which begins at the partition's position.
    /// `None` also while the partition's batch is held.
    fn partition_batch(&self, partition: i32) -> Option<PartitionBatch> {
        let position = self.positions.get(&partition)?;
        if self.held.waits((partition, position.epoch)) {
            return None;
        }
        Some(PartitionBatch::new(partition, position.epoch, position.next))
    }

    fn measure(&self) {
        for (severity, open) in self.engine.open_episodes() {
            gauge!(EPISODES_OPEN, "severity" => severity.as_str()).set(open as f64);
        }
        gauge!(RULE_STATES).set(self.engine.states() as f64);
        self.parts.owed.send_replace(owed::measure(self.engine.owed()));
    }

    fn owns(&self, advance: &Advance) -> bool {
        self.positions.get(&advance.partition).is_some_and(|at| at.epoch == advance.epoch)
    }

    /// Gives up a claim that the ledger no longer accepts. Only a new claim shows where to continue.
    fn fenced(&mut self, advance: &Advance, position: LedgerPosition) {
        // The partition may have been revoked in the meantime, or claimed anew.
        if position == LedgerPosition::Committed || !self.owns(advance) {
            return;
        }
        let Advance { partition, epoch, .. } = *advance;
        warn!(partition, ?position, "partition fenced, claiming it again while Kafka assigns it");
        self.forget(partition);
        self.parts.source.claim_again(partition, epoch);
    }

    fn forget(&mut self, partition: i32) {
        self.engine.forget(partition);
        self.parts.dead_letters.waiting.forget(partition);
        self.held.forget(partition);
        self.positions.remove(&partition);
    }
}
