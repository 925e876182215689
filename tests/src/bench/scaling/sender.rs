//! Puts readings into the topic: at once, or at the rate of a load. The rates belong to
//! [`super::load`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::load::Load;
use crate::bench::fill_topic::Filler;
use crate::bench::workload::record;
use crate::stack::world::World;

/// Time between two moments in which the sender catches up with its rate.
const TICK: Duration = Duration::from_millis(50);

/// Seconds that the devices' readings may cover, all of them in the past.
const PAST: usize = 86_400;

/// Devices that take turns. Each reading is a second after the device's reading before.
pub(super) struct Sender<'a> {
    world: &'a World,
    filler: Filler,
    devices: usize,
    first: i64,
    sent: AtomicUsize,
}

impl<'a> Sender<'a> {
    pub(super) fn new(world: &'a World, devices: usize) -> anyhow::Result<Self> {
        let first = jiff::Timestamp::now().as_second() - PAST as i64;
        Ok(Self { world, filler: Filler::new(world)?, devices, first, sent: AtomicUsize::new(0) })
    }

    /// Returns the number of readings so far.
    pub(super) fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Queues further readings.
    pub(super) fn send(&self, readings: usize) -> anyhow::Result<()> {
        let first = self.sent();
        for n in first..first + readings {
            let epoch = self.first + (n / self.devices) as i64;
            let record = record(self.world, n % self.devices, epoch, 60 + n % 50);
            self.filler.put(&record.device, record.partition, &record.value)?;
        }
        self.sent.store(first + readings, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until Kafka has all readings.
    pub(super) fn flush(&self) -> anyhow::Result<()> {
        self.filler.flush()
    }

    /// Checks that no reading of a load would be dated ahead.
    pub(super) fn check(&self, load: Load) -> anyhow::Result<()> {
        let all = self.sent() + load.due(load.end());
        ensure!(
            all / self.devices < PAST,
            "{all} readings need more than {} devices",
            self.devices
        );
        Ok(())
    }

    /// Sends a load that began at `start`, to its end.
    pub(super) async fn follow(&self, load: Load, start: Instant) -> anyhow::Result<()> {
        let before = self.sent();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while start.elapsed() < load.end() {
            ticks.tick().await;
            self.send((before + load.due(start.elapsed())).saturating_sub(self.sent()))?;
        }
        self.flush()
    }
}
