//! The settings of a fleet: their defaults and their bounds. [`super::Fleet`] acts on them.

use std::time::Duration;

use anyhow::ensure;
use jiff::SignedDuration;

/// Most readings of one run: the history keeps each in memory, in about 30 bytes.
const READINGS_MAX: f64 = 15_000_000.0;

/// The settings of a fleet.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// URL to which the devices send their readings.
    #[arg(long, default_value = "http://127.0.0.1:8080/upload_health_data")]
    pub url: String,
    /// Number of devices; every fifth is a phone, the others are watches.
    #[arg(long, default_value_t = 300)]
    pub devices: u32,
    /// Readings per second of all devices together.
    #[arg(long, default_value_t = 200.0)]
    pub rate: f64,
    /// Duration of the run, such as 30s or 5m.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub duration: Duration,
    /// Seed of all random values: the same seed gives the same readings.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Share of readings that are faulty: zeros, out of range, 4g, no serial, broken JSON.
    #[arg(long, default_value_t = 0.01)]
    pub faulty_ratio: f64,
    /// Number of patients who drift into a breach (heart rate above 120) and recover, again and
    /// again.
    #[arg(long, default_value_t = 3)]
    pub drifting: u32,
    /// Prefix of the serial numbers; digits fill them up to 16 characters.
    #[arg(long, default_value = "FLEET")]
    pub serial_prefix: String,
    /// Most connections at a time.
    #[arg(long, default_value_t = 256)]
    pub connections: usize,
    /// Allow a target that is not this machine.
    #[arg(long)]
    pub allow_remote: bool,
}

/// Parses a duration such as `30s`.
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
    pub(super) fn check(&self) -> anyhow::Result<()> {
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

    /// Returns the time from one reading of a device to its next.
    pub(super) fn period(&self) -> Duration {
        Duration::from_secs_f64(f64::from(self.devices) / self.rate)
    }
}
