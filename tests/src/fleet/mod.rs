//! A simulated fleet: watches with caches, retries and bursts, phones that relay and forget,
//! realistic and faulty readings, and some patients who drift into a breach and recover.
//!
//! The schedule is open-loop: every reading has a planned time, and its latency counts from then,
//! so that a slow server shows as latency and never as fewer requests.

mod body;
mod client;
mod device;
mod report;
mod vitals;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::SignedDuration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use body::{TENANT, serial};
pub use report::Report;

pub(crate) use client::{Pool, Target};
use device::Device;

/// Most readings of one run: what the clients were told is kept in memory.
const READINGS_MAX: f64 = 10_000_000.0;

/// What the fleet does.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// Where the devices send their readings.
    #[arg(long, default_value = "http://127.0.0.1:8080/upload_health_data")]
    pub url: String,
    /// How many devices there are; every fifth is a phone, the others are watches.
    #[arg(long, default_value_t = 300)]
    pub devices: u32,
    /// Readings per second of all devices together.
    #[arg(long, default_value_t = 200.0)]
    pub rate: f64,
    /// How long it runs, such as 30s or 5m.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub duration: Duration,
    /// Seed of everything random: the same seed gives the same readings.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Share of readings that are faulty: zeros, out of range, 4g, no serial, broken JSON.
    #[arg(long, default_value_t = 0.01)]
    pub faulty_ratio: f64,
    /// How many patients drift into a breach (heart rate above 120) and recover, again and again.
    #[arg(long, default_value_t = 3)]
    pub drifting: u32,
    /// What the serial numbers begin with; digits fill them up to 16 characters.
    #[arg(long, default_value = "FLEET")]
    pub serial_prefix: String,
    /// Most connections at a time.
    #[arg(long, default_value_t = 256)]
    pub connections: usize,
    /// Allow a target that is not this machine.
    #[arg(long)]
    pub allow_remote: bool,
}

/// Reads a duration such as `30s`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|length| length.try_into().ok());
    parsed.ok_or_else(|| "write a duration with its unit, such as 30s or 5m".to_owned())
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: String::new(),
            devices: 300,
            rate: 200.0,
            duration: Duration::from_secs(30),
            seed: 1,
            faulty_ratio: 0.01,
            drifting: 3,
            serial_prefix: "FLEET".to_owned(),
            connections: 256,
            allow_remote: false,
        }
    }
}

impl Settings {
    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.rate > 0.0, "--rate must be above 0");
        ensure!(
            f64::from(self.devices) >= self.rate,
            "--devices must be at least --rate: a device measures once a second at most, because \
             the time of a reading has a resolution of a second"
        );
        ensure!(
            self.rate * self.duration.as_secs_f64() <= READINGS_MAX,
            "--rate times --duration must not exceed {READINGS_MAX} readings"
        );
        ensure!(
            (0.0..=1.0).contains(&self.faulty_ratio),
            "--faulty-ratio must lie between 0 and 1"
        );
        ensure!(self.serial_prefix.len() <= 9, "--serial-prefix must leave 7 digits of 16");
        ensure!(self.connections > 0, "--connections must be above 0");
        Ok(())
    }

    /// Time from one reading of a device to its next one.
    fn period(&self) -> Duration {
        Duration::from_secs_f64(f64::from(self.devices) / self.rate)
    }
}

/// What all devices share.
struct Shared {
    pool: Pool,
    begin: Instant,
    begin_epoch: Duration,
    end: Instant,
    stop: CancellationToken,
    report: Mutex<Report>,
}

impl Shared {
    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Epoch second of a planned time.
    fn epoch(&self, due: Instant) -> i64 {
        let epoch = self.begin_epoch + due.duration_since(self.begin);
        i64::try_from(epoch.as_secs()).unwrap_or(i64::MAX)
    }

    /// Waits until `due`; `false` where the fleet was stopped first.
    async fn wait_until(&self, due: Instant) -> bool {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep_until(due) => true,
        }
    }
}

/// A fleet under way.
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
            settings.allow_remote || is_local(target.address),
            "{} is not this machine: load on others needs --allow-remote",
            settings.url
        );
        let now = jiff::Timestamp::now().as_duration();
        // The first reading is due a moment from now, when all devices stand ready.
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

    /// What has happened so far.
    pub fn progress<T>(&self, look: impl FnOnce(&Report) -> T) -> T {
        look(&self.shared.report())
    }

    /// Lets all devices measure no more; they still send what they hold.
    pub fn stop(&self) {
        self.shared.stop.cancel();
    }

    /// Waits until all devices are through, and answers what they were told.
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

const fn is_local(address: SocketAddr) -> bool {
    address.ip().is_loopback()
}
