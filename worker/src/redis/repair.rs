//! Writes to Redis from MySQL what Redis missed: after an outage, a crash between COMMIT and Redis,
//! a flush, or a step back in time. Runs beside the pipeline, so that it does not slow storing.
//!
//! For a short range of offsets the topic names the devices. For a long range, or after a loss, the
//! repair takes all devices. The rows always come from MySQL, because only MySQL knows how
//! deliveries merged and which it rejected. The script decides whether a row is newer than the
//! hash.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use ljwx_ledger::ledger::Ledger;
use ljwx_reading::DeviceSn;
use metrics::{counter, gauge};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub use super::changed_devices::{OffsetRange, ReadingsTopic};
pub use super::generation::{Generation, GenerationCheck};
use crate::batch::redis_progress::LaneProgress;
use crate::metrics::{REDIS_BEHIND, REDIS_REPAIRED};
use crate::mysql::newest_rows::NewestRows;
use crate::redis::LatestHashes;

/// Interval at which the lanes are checked.
const INTERVAL: Duration = Duration::from_millis(500);

/// Interval at which the generation is checked while nothing is behind.
const GENERATION_INTERVAL: Duration = Duration::from_secs(2);

/// Pause between two refills. Without the pause, a Redis that evicts the generation's key would be
/// refilled without end.
const REFILL_PAUSE: Duration = Duration::from_secs(10);

/// Interval of the signs of life of a refill, well below the time after which another replica takes it.
const REFILL_KEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Most deliveries that are looked up in the topic. For more, all devices of MySQL are processed.
const RANGE_DELIVERIES_MAX: i64 = 50_000;

/// The pipeline's handle of the repair.
pub struct RepairHandle {
    /// Takes the progress of the lanes from the pipeline.
    pub lanes: watch::Sender<Vec<LaneProgress>>,
    /// Returns repaired lanes, with the progress that they had when their repair began.
    pub repaired: mpsc::UnboundedReceiver<LaneProgress>,
}

/// The repair's end of the handle.
pub struct RepairInbox {
    lanes: watch::Receiver<Vec<LaneProgress>>,
    // Unbounded: there is at most one message per lane and turn, and the pipeline takes messages
    // before deliveries.
    repaired: mpsc::UnboundedSender<LaneProgress>,
}

/// Connects a pipeline with its repair.
pub fn link() -> (RepairHandle, RepairInbox) {
    let (lanes_sender, lanes) = watch::channel(Vec::new());
    let (repaired_sender, repaired) = mpsc::unbounded_channel();
    (
        RepairHandle { lanes: lanes_sender, repaired },
        RepairInbox { lanes, repaired: repaired_sender },
    )
}

/// The repair of Redis and the parts that it uses.
pub struct Repair {
    pub latest: Arc<LatestHashes>,
    pub newest: NewestRows,
    pub generation_check: GenerationCheck,
    pub topic: ReadingsTopic,
    pub ledger: Ledger,
    pub link: RepairInbox,
}

/// The state of the repair between two turns.
#[derive(Default)]
struct RepairState {
    generation: Option<(Instant, Generation)>,
    refilled_at: Option<Instant>,
    /// Epoch and offset that the ledger has, by partition.
    noted: BTreeMap<i32, (i64, i64)>,
    failing: bool,
}

impl Repair {
    /// Repairs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut memory = RepairState::default();
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(interval.tick()).await.is_some() {
            let turn = self.turn(&mut memory, &stop);
            let Some(turned) = stop.run_until_cancelled(turn).await else { return };
            match turned {
                Ok(true) if std::mem::take(&mut memory.failing) => {
                    info!("repair of Redis recovered");
                }
                Ok(_) => {}
                Err(error) if memory.failing => debug!(%error, "cannot repair Redis, retrying"),
                Err(error) => {
                    memory.failing = true;
                    warn!(error = %format!("{error:#}"), "cannot repair Redis, retrying");
                }
            }
        }
    }

    /// Returns whether anything was tried.
    async fn turn(
        &self,
        memory: &mut RepairState,
        stop: &CancellationToken,
    ) -> anyhow::Result<bool> {
        let lanes = self.link.lanes.borrow().clone();
        let behind: Vec<LaneProgress> =
            lanes.iter().filter(|lane| lane.redis_progress.behind() > 0).copied().collect();
        let known = memory.generation.map(|(_, generation)| generation);
        gauge!(REDIS_BEHIND).set(deliveries_behind(&lanes, known) as f64);
        if !self.latest.reachable() {
            // A Redis that reconnects may be a different instance: check the generation again.
            memory.generation = memory.generation.filter(|(_, generation)| generation.is_lost());
            return Ok(false);
        }
        let generation = self.generation(memory, behind.is_empty()).await?;
        let rested = memory.refilled_at.is_none_or(|at| at.elapsed() >= REFILL_PAUSE);
        if generation.is_lost() && rested && self.generation_check.take_refill().await? {
            self.refill(generation).await?;
            memory.refilled_at = Some(Instant::now());
            memory.generation = None;
            self.report_repaired(&behind).await?;
        } else if !behind.is_empty() {
            self.repair(&behind, stop).await?;
            self.report_repaired(&behind).await?;
        }
        self.note(&lanes, memory).await?;
        Ok(true)
    }

    async fn generation(
        &self,
        memory: &mut RepairState,
        fresh: bool,
    ) -> anyhow::Result<Generation> {
        if let Some((at, generation)) = memory.generation
            && fresh
            && at.elapsed() < GENERATION_INTERVAL
        {
            return Ok(generation);
        }
        let generation =
            self.generation_check.check().await.context("cannot check Redis's generation")?;
        memory.generation = Some((Instant::now(), generation));
        Ok(generation)
    }

    async fn refill(&self, generation: Generation) -> anyhow::Result<()> {
        let devices = self.keep_refill(self.refresh_all()).await?;
        self.generation_check.refilled(generation.present).await?;
        if devices > 0 {
            info!(devices, generation = generation.present, "Redis filled from MySQL");
        }
        Ok(())
    }

    /// Writes the devices that Redis may be missing on these lanes, and perhaps more.
    async fn repair(
        &self,
        behind: &[LaneProgress],
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let deliveries: i64 = behind.iter().map(|lane| lane.redis_progress.behind()).sum();
        let changed_devices = match deliveries {
            0..=RANGE_DELIVERIES_MAX => self.changed_devices(behind, stop).await,
            _ => Err(anyhow::anyhow!("a long range")),
        };
        let (devices, source) = match changed_devices {
            Ok(devices) => {
                self.latest.refresh(&devices).await?;
                counter!(REDIS_REPAIRED, "source" => "topic").increment(devices.len() as u64);
                (devices.len(), "topic")
            }
            Err(reason) => {
                debug!(%reason, deliveries, "cannot read changed devices from the topic, repairing all devices");
                (self.refresh_all().await?, "mysql")
            }
        };
        info!(deliveries, devices, source, "Redis repaired");
        Ok(())
    }

    /// Returns the devices of the readings in the topic between the progress of Redis and of MySQL.
    async fn changed_devices(
        &self,
        behind: &[LaneProgress],
        stop: &CancellationToken,
    ) -> anyhow::Result<Vec<DeviceSn>> {
        let ranges: Vec<OffsetRange> = behind
            .iter()
            .map(|lane| OffsetRange {
                partition: lane.partition,
                from: lane.redis_progress.up_to(),
                to: lane.redis_progress.done(),
            })
            .collect();
        let (topic, base, stop) = (self.topic.clone(), self.ledger.base(), stop.clone());
        let asked = move || topic.devices(&ranges, base, &stop);
        let devices = tokio::task::spawn_blocking(asked).await??;
        Ok(devices.into_iter().collect())
    }

    /// Writes the newest row of every device to Redis. Returns the number of devices.
    async fn refresh_all(&self) -> anyhow::Result<usize> {
        let (mut last, mut all) = (String::new(), 0);
        loop {
            let page = self.newest.devices_after(&last).await?;
            let Some(end) = page.last() else { return Ok(all) };
            last.clone_from(end);
            let devices: Vec<DeviceSn> = page.iter().filter_map(|sn| DeviceSn::new(sn)).collect();
            self.latest.refresh(&devices).await?;
            counter!(REDIS_REPAIRED, "source" => "mysql").increment(devices.len() as u64);
            all += devices.len();
        }
    }

    /// Runs `work`, and keeps the refill meanwhile: a page may take longer than others wait for it.
    async fn keep_refill<T>(
        &self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let mut ticks = tokio::time::interval(REFILL_KEEP_INTERVAL);
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = ticks.tick() => {
                    let kept = self.generation_check.take_refill().await?;
                    anyhow::ensure!(kept, "another replica refills");
                }
            }
        }
    }

    /// Reports the repaired lanes to the pipeline and to the ledger.
    async fn report_repaired(&self, repaired: &[LaneProgress]) -> Result<(), sqlx::Error> {
        for lane in repaired {
            // If the pipeline has ended, the report is not needed.
            let _ = self.link.repaired.send(*lane);
            self.ledger
                .redis_current(lane.partition, lane.epoch, lane.redis_progress.done())
                .await?;
        }
        Ok(())
    }

    /// Advances `redis_offset` in the ledger for lanes whose batches will not advance it.
    async fn note(&self, lanes: &[LaneProgress], memory: &mut RepairState) -> anyhow::Result<()> {
        for lane in lanes.iter().filter(|lane| lane.idle && lane.redis_progress.behind() == 0) {
            let position = (lane.epoch, lane.redis_progress.up_to());
            if memory.noted.get(&lane.partition) != Some(&position) {
                self.ledger.redis_current(lane.partition, position.0, position.1).await?;
                memory.noted.insert(lane.partition, position);
            }
        }
        Ok(())
    }
}

/// Returns the number of deliveries that Redis may be missing: after a loss, all deliveries.
fn deliveries_behind(lanes: &[LaneProgress], generation: Option<Generation>) -> i64 {
    let lost = generation.is_some_and(|generation| generation.is_lost());
    let behind = |lane: &LaneProgress| {
        if lost { lane.redis_progress.done() } else { lane.redis_progress.behind() }
    };
    lanes.iter().map(behind).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::redis_progress::RedisProgress;

    #[test]
    fn after_a_loss_everything_is_behind() {
        let lane = LaneProgress {
            partition: 0,
            epoch: 1,
            redis_progress: RedisProgress::new(4, 10),
            idle: true,
        };
        let generation = |refilled| Some(Generation { present: 2, refilled });
        for (generation, behind) in [(None, 6), (generation(2), 6), (generation(1), 10)] {
            assert_eq!(deliveries_behind(&[lane], generation), behind);
        }
    }
}
