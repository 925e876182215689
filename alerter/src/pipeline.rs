//! The loop: deliveries in, one transaction out.
//!
//! Decides when things happen; `judge` puts together what. What follows from a reading is [`crate::engine`]'s to say, what is
//! written about it [`crate::stretch`]'s, how it is written [`crate::store`]'s.

mod judge;

use std::collections::btree_map::{BTreeMap, Entry};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use common::bindings::Bindings;
use common::ledger::{Claim, Standing};
use common::source::{Delivery, Event, Source};
use jiff::tz::TimeZone;
use metrics::{gauge, histogram};
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::engine::Engine;
use crate::hold::{GaveUp, Hold};
use crate::metrics::{ALERT_CHECK_SECONDS, EPISODES_OPEN, RULE_STATES};
use crate::recipients::Directory;
use crate::rules::RuleSet;
use crate::silences::Silences;
use crate::state;
use crate::store::{Committed, Store};
use crate::stretch::Stretch;

/// How often open episodes are counted: it looks at every device.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);

/// How often absences are looked for that no record shows.
const ABSENCE_INTERVAL: Duration = Duration::from_secs(1);

/// Deliveries beyond which one transaction takes no more along.
const DELIVERIES_MAX: usize = 4096;

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
    /// Tells the sender that there is something to send.
    pub wake: Arc<Notify>,
    /// The topic, as spans name it.
    pub topic: String,
    /// The zone in which absences are dated.
    pub zone: TimeZone,
}

/// Where an owned partition stands.
#[derive(Debug, Clone, Copy)]
struct Position {
    epoch: i64,
    next: i64,
}

/// The running loop.
pub struct Pipeline {
    parts: Parts,
    engine: Engine,
    positions: BTreeMap<i32, Position>,
}

impl Pipeline {
    /// A loop that owns nothing yet.
    pub fn new(parts: Parts) -> Self {
        let engine = Engine::new(parts.zone.clone());
        Self { parts, engine, positions: BTreeMap::new() }
    }

    /// Runs until the source is closed, or until nothing can be written and the process must end.
    pub async fn run(mut self) -> anyhow::Result<()> {
        self.take_rules();
        let mut measure = tokio::time::interval(MEASURE_INTERVAL);
        let mut absence = tokio::time::interval(ABSENCE_INTERVAL);
        absence.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.parts.hold.pulse().turn();
            let flow = tokio::select! {
                event = self.parts.source.next(true) => self.on_event(event).await?,
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
        self.parts.source.close().await;
        Ok(())
    }

    async fn on_event(&mut self, event: Event) -> anyhow::Result<ControlFlow<()>> {
        match event {
            Event::Assigned(claims) => self.on_assigned(&claims).await,
            Event::Deliveries(deliveries) => {
                let deliveries = self.and_what_waits(deliveries);
                self.on_deliveries(deliveries).await
            }
            Event::Revoked(revocation) => {
                // Every delivery is done with before the next event, so there is nothing to drain.
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
            let load =
                hold.until_done("load alert state", || state::load(store.pool(), claim.partition));
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
        let mut batch = Vec::new();
        for partition in partitions {
            let Some(mut stretch) = self.stretch(partition) else { continue };
            for change in self.engine.realign(partition) {
                stretch.supersede(&change);
            }
            batch.push(stretch);
        }
        self.commit(batch).await
    }

    /// A stretch of an owned partition that begins where the partition stands.
    fn stretch(&self, partition: i32) -> Option<Stretch> {
        let position = self.positions.get(&partition)?;
        Some(Stretch::new(partition, position.epoch, position.next))
    }

    /// Takes along what came while the last transaction was written: each costs the same whatever
    /// is in it, so falling behind makes them larger instead of more.
    fn and_what_waits(&mut self, mut deliveries: Vec<Delivery>) -> Vec<Delivery> {
        while deliveries.len() < DELIVERIES_MAX {
            let Some(more) = self.parts.source.waiting() else { break };
            deliveries.extend(more);
        }
        deliveries
    }

    async fn on_deliveries(
        &mut self,
        deliveries: Vec<Delivery>,
    ) -> anyhow::Result<ControlFlow<()>> {
        let begun = Instant::now();
        let Ok(bound) = self.bound(&deliveries).await else { return Ok(ControlFlow::Break(())) };
        let mut batch: BTreeMap<i32, Stretch> = BTreeMap::new();
        for delivery in &deliveries {
            let stretch = match batch.entry(delivery.partition) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => match self.stretch(delivery.partition) {
                    Some(stretch) => entry.insert(stretch),
                    None => continue,
                },
            };
            // What an earlier claim left in the queue is read again under this one.
            let ours = delivery.epoch == stretch.advance.epoch;
            if ours
                && delivery.offset >= stretch.advance.to
                && self.judge(delivery, &bound, stretch).await == Err(GaveUp)
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        let flow = self.commit(batch.into_values().collect()).await?;
        histogram!(ALERT_CHECK_SECONDS).record(begun.elapsed().as_secs_f64());
        Ok(flow)
    }

    fn measure(&self) {
        for (severity, open) in self.engine.open_episodes() {
            gauge!(EPISODES_OPEN, "severity" => severity.as_str()).set(open as f64);
        }
        gauge!(RULE_STATES).set(self.engine.states() as f64);
    }

    /// Writes a batch, however long it takes, and moves on.
    async fn commit(&mut self, mut batch: Vec<Stretch>) -> anyhow::Result<ControlFlow<()>> {
        for stretch in &mut batch {
            stretch.state = self.engine.take_changes(stretch.advance.partition);
        }
        batch.retain(|stretch| !stretch.is_empty());
        // Each turn but the last takes a stretch away.
        while !batch.is_empty() {
            let Parts { hold, store, .. } = &self.parts;
            match hold.until_done("write alerts", || store.commit(&batch)).await {
                Err(GaveUp) => {
                    warn!(
                        "stopping with readings that were judged and not written; they are judged again"
                    );
                    return Ok(ControlFlow::Break(()));
                }
                Ok(Committed::Done) => batch.drain(..).for_each(|stretch| self.written(&stretch)),
                Ok(Committed::Refused(at, standing)) => {
                    self.refused(&batch.remove(at), standing)?
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn written(&mut self, stretch: &Stretch) {
        let advance = &stretch.advance;
        if let Some(position) = self.positions.get_mut(&advance.partition) {
            position.next = advance.to;
        }
        self.parts.source.commit([(advance.partition, advance.to)]);
        if !stretch.notifications.is_empty() {
            self.parts.wake.notify_one();
        }
    }

    fn refused(&mut self, stretch: &Stretch, standing: Standing) -> anyhow::Result<()> {
        let partition = stretch.advance.partition;
        match standing {
            // An earlier attempt was written and only its answer was lost.
            Standing::Committed => self.written(stretch),
            Standing::Lost => {
                warn!(partition, "another replica has claimed the partition");
                self.forget(partition);
            }
            Standing::At(offset) => bail!(
                "partition {partition}: the ledger was moved by hand, from {} to {offset}",
                stretch.advance.from
            ),
        }
        Ok(())
    }

    fn forget(&mut self, partition: i32) {
        self.engine.forget(partition);
        self.positions.remove(&partition);
    }
}
