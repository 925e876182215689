//! The loop: deliveries in, one transaction out.
//!
//! Decides when things happen; `deliveries` and `no_data_tick` put together what. What follows from a
//! reading is [`crate::engine`]'s to say, what is written about it [`transition_rows`]'s, how it is
//! written [`commit`]'s.

pub mod alert_span;
pub mod commit;
mod deliveries;
mod no_data_tick;
pub mod partition_batch;
mod reading_counts;
mod route_transition;
pub mod transition_rows;
mod writing;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use jiff::tz::TimeZone;
use ljwx_ledger::device_bindings::Bindings;
use ljwx_ledger::group::consumer::Source;
use ljwx_ledger::group::delivery::Event;
use ljwx_ledger::ledger::{Advance, Claim, Standing};
use ljwx_service::lifecycle::{Deadline, Step};
use metrics::gauge;
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::engine::Engine;
use crate::metrics::{EPISODES_OPEN, RULE_STATES};
use crate::mysql::retry::Hold;
use crate::mysql::state_rows;
use crate::notify::recipients::Directory;
use crate::notify::rejected_rows::Refusals;
use crate::notify::silences::Silences;
use crate::pipeline::commit::Store;
use crate::pipeline::partition_batch::Stretch;
use crate::rules::index::RuleSet;
use reading_counts::Tally;
use writing::{Writer, Writing, Written};

/// How often open episodes are counted: it looks at every device.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);

/// How often absences are looked for that no record shows.
const ABSENCE_INTERVAL: Duration = Duration::from_secs(1);

/// Deliveries beyond which one transaction takes no more along; as many wait while it is judged.
pub const DELIVERIES_MAX: usize = 16_384;

/// What the loop is made of.
pub struct Parts {
    /// Where deliveries come from.
    pub source: Source,
    /// Where what follows goes.
    pub store: Store,
    /// Whose devices are whose, where readings do not say.
    pub bindings: Bindings,
    /// Who is told.
    pub directory: Arc<Directory>,
    /// The rules in force; they have been read at least once.
    pub rules: watch::Receiver<Option<Arc<RuleSet>>>,
    /// The silences in force; they have been read at least once.
    pub silences: Silences,
    /// How outages are waited out.
    pub hold: Hold,
    /// Says that the process is to end.
    pub stop: CancellationToken,
    /// Until when it has to.
    pub deadline: Deadline,
    /// Tells the sender that there is something to send.
    pub wake: Arc<Notify>,
    /// Counts rows that the server refuses.
    pub refusals: Refusals,
    /// The topic, as spans name it.
    pub topic: String,
    /// The zone in which absences are dated.
    pub zone: TimeZone,
}

/// Where an owned partition stands.
#[derive(Debug, Clone, Copy)]
struct Position {
    epoch: i64,
    /// The next offset to be judged.
    next: i64,
}

/// The running loop.
pub struct Pipeline {
    parts: Parts,
    engine: Engine,
    positions: BTreeMap<i32, Position>,
    tally: Tally,
    writing: Writing,
}

impl Pipeline {
    /// A loop that owns nothing yet.
    pub fn new(parts: Parts) -> Self {
        let engine = Engine::new(parts.zone.clone());
        Self {
            parts,
            engine,
            positions: BTreeMap::new(),
            tally: Tally::default(),
            writing: Writing::default(),
        }
    }

    /// Runs until the process is to end, settles what was judged and leaves the group, each within its
    /// share of the deadline.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let deadline = self.parts.deadline.clone();
        let ended = deadline.within(Step::Drain, self.turn()).await.unwrap_or_else(|| {
            warn!("stopping in the middle of a batch; it is judged again");
            Ok(())
        });
        // A loop that failed stops the process as a signal does.
        self.parts.stop.cancel();
        // After a failure too: a consumer that is only dropped gives its partitions away on this thread,
        // which may not wait.
        self.parts.source.close(&deadline).await;
        ended
    }

    /// What the source still holds at the end is left there: it will be read again.
    async fn turn(&mut self) -> anyhow::Result<()> {
        self.take_rules();
        let mut measure = tokio::time::interval(MEASURE_INTERVAL);
        let mut absence = tokio::time::interval(ABSENCE_INTERVAL);
        absence.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.parts.hold.pulse().turn();
            let flow = tokio::select! {
                () = self.parts.stop.cancelled() => ControlFlow::Break(()),
                event = self.parts.source.next(true) => self.on_event(event).await?,
                written = self.writing.ended() => self.on_written(written?)?,
                Ok(()) = self.parts.rules.changed() => self.on_rules().await?,
                _ = absence.tick() => self.on_absence().await?,
                _ = measure.tick() => {
                    self.measure();
                    ControlFlow::Continue(())
                }
            };
            if flow.is_break() {
                break;
            }
        }
        // What was judged last; that it was given up has been said.
        let _ = self.settle().await?;
        Ok(())
    }

    async fn on_event(&mut self, event: Event) -> anyhow::Result<ControlFlow<()>> {
        match event {
            Event::Assigned(claims) => self.on_assigned(&claims).await,
            Event::Deliveries(deliveries) => {
                let chunks = self.and_what_waits(deliveries);
                self.on_deliveries(chunks).await
            }
            Event::Revoked(revocation) => {
                if self.settle().await?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                revocation.partitions.iter().for_each(|partition| self.forget(*partition));
                drop(revocation);
                Ok(ControlFlow::Continue(()))
            }
            Event::Closed if self.parts.stop.is_cancelled() => Ok(ControlFlow::Break(())),
            Event::Closed => bail!("the consumer ended without being asked to"),
            Event::Failed(reason) => bail!("the consumer cannot go on: {reason}"),
        }
    }

    /// Loads a partition's state before its first reading is judged.
    async fn on_assigned(&mut self, claims: &[Claim]) -> anyhow::Result<ControlFlow<()>> {
        for claim in claims {
            let Parts { hold, store, .. } = &self.parts;
            let load = hold
                .until_done("load alert state", || state_rows::load(store.pool(), claim.partition));
            let Ok(stored) = load.await else { return Ok(ControlFlow::Break(())) };
            let (partition, next_offset) = (claim.partition, claim.next_offset);
            info!(partition, devices = stored.devices.len(), next_offset, "alert state loaded");
            self.engine.load(partition, stored);
            self.positions.insert(partition, Position { epoch: claim.epoch, next: next_offset });
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
        }
    }

    /// Closes what the rules in force no longer know.
    async fn realign(&mut self, partitions: Vec<i32>) -> anyhow::Result<ControlFlow<()>> {
        let (begun, mut batch) = (Instant::now(), Vec::new());
        for partition in partitions {
            let Some(mut stretch) = self.stretch(partition) else { continue };
            for change in self.engine.realign(partition) {
                stretch.supersede(&change);
            }
            batch.push(stretch);
        }
        self.commit(batch, begun).await
    }

    /// A stretch of an owned partition that begins where the partition stands.
    fn stretch(&self, partition: i32) -> Option<Stretch> {
        let position = self.positions.get(&partition)?;
        Some(Stretch::new(partition, position.epoch, position.next))
    }

    fn measure(&self) {
        for (severity, open) in self.engine.open_episodes() {
            gauge!(EPISODES_OPEN, "severity" => severity.as_str()).set(open as f64);
        }
        gauge!(RULE_STATES).set(self.engine.states() as f64);
    }

    /// Has a batch written, after the one before, and moves on.
    async fn commit(
        &mut self,
        mut batch: Vec<Stretch>,
        begun: Instant,
    ) -> anyhow::Result<ControlFlow<()>> {
        for stretch in &mut batch {
            let advance = &stretch.advance;
            stretch.state = self.engine.take_changes(advance.partition);
            if let Some(position) = self.positions.get_mut(&advance.partition) {
                position.next = advance.to;
            }
        }
        batch.retain(|stretch| !stretch.is_empty());
        if batch.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let flow = self.settle().await?;
        // Of these the batch before has shown that another replica has them.
        batch.retain(|stretch| self.owns(&stretch.advance));
        if flow.is_continue() && !batch.is_empty() {
            let Parts { store, hold, wake, refusals, .. } = &self.parts;
            let (store, hold, wake) = (store.clone(), hold.clone(), Arc::clone(wake));
            let refusals = refusals.clone();
            self.writing.begin(Writer { store, hold, wake, refusals, begun }, batch);
        }
        Ok(flow)
    }

    /// Waits for what is being written.
    async fn settle(&mut self) -> anyhow::Result<ControlFlow<()>> {
        if !self.writing.is_some() {
            return Ok(ControlFlow::Continue(()));
        }
        let written = self.writing.ended().await?;
        self.on_written(written)
    }

    fn on_written(&mut self, written: Written) -> anyhow::Result<ControlFlow<()>> {
        let done = written.done.iter().map(|advance| (advance.partition, advance.to));
        self.parts.source.commit(done);
        for (advance, standing) in written.refused {
            self.refused(&advance, standing)?;
        }
        Ok(if written.gave_up { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn owns(&self, advance: &Advance) -> bool {
        self.positions.get(&advance.partition).is_some_and(|at| at.epoch == advance.epoch)
    }

    fn refused(&mut self, advance: &Advance, standing: Standing) -> anyhow::Result<()> {
        let partition = advance.partition;
        match standing {
            Standing::Committed => {}
            Standing::Lost if self.owns(advance) => {
                warn!(partition, "another replica has claimed the partition");
                self.forget(partition);
            }
            // It went away meanwhile.
            Standing::Lost => {}
            Standing::At(offset) => bail!(
                "partition {partition}: the ledger was moved by hand, from {} to {offset}",
                advance.from
            ),
        }
        Ok(())
    }

    fn forget(&mut self, partition: i32) {
        self.engine.forget(partition);
        self.positions.remove(&partition);
    }
}
