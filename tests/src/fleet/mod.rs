//! Simulates a fleet: watches with caches, retries and bursts, phones that relay and forget,
//! realistic and faulty readings, and some patients who drift into a breach and recover.
//!
//! Comparing the answers with the stored readings belongs to [`crate::accounting`].
//!
//! The schedule is open-loop: every reading has a planned time, from which its latency counts. A
//! slow server shows as latency and never as fewer requests.

mod body;
mod client;
mod device;
mod report;
mod settings;
mod shared;
mod vitals;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use body::{TENANT, serial};
pub(crate) use client::{Pool, Target};
pub use report::Report;
pub use settings::{Settings, duration};

use device::Device;
use shared::Shared;

/// A running fleet.
pub struct Fleet {
    shared: Arc<Shared>,
    devices: JoinSet<()>,
}

impl Fleet {
    /// Starts all devices.
    pub async fn start(settings: &Settings) -> anyhow::Result<Self> {
        settings.check()?;
        let target = Target::resolve(&settings.url).await?;
        ensure!(
            settings.allow_remote || target.is_local(),
            "{} is not this machine: load on others needs --allow-remote",
            settings.url
        );
        let now = jiff::Timestamp::now().as_duration();
        // The first reading is due a moment from now, when all devices are ready.
        let begin = Instant::now() + Duration::from_millis(50);
        let shared = Arc::new(Shared {
            pool: Pool::new(target, settings.connections),
            begin,
            begin_epoch: Duration::try_from(now).context("the clock shows a time before 1970")?,
            end: begin + settings.duration,
            stop: CancellationToken::new(),
            report: Mutex::default(),
        });
        let mut devices = JoinSet::new();
        for number in 0..settings.devices {
            devices.spawn(Device::new(number, settings).live(Arc::clone(&shared)));
        }
        Ok(Self { shared, devices })
    }

    /// Returns a view of the report so far.
    pub fn progress<T>(&self, look: impl FnOnce(&Report) -> T) -> T {
        look(&self.shared.report())
    }

    /// Stops all measuring. The devices still send the readings that they hold.
    pub fn stop(&self) {
        self.shared.stop.cancel();
    }

    /// Waits until all devices have finished, and returns the report.
    pub async fn finish(mut self) -> anyhow::Result<Report> {
        while let Some(ended) = self.devices.join_next().await {
            ended.context("a device")?;
        }
        let mut report = std::mem::take(&mut *self.shared.report());
        report.elapsed = self.shared.begin.elapsed();
        Ok(report)
    }
}

/// Runs a fleet from start to end.
pub async fn run(settings: &Settings) -> anyhow::Result<Report> {
    Fleet::start(settings).await?.finish().await
}
