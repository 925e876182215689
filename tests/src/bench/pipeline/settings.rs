//! The settings of `bench pipeline`. [`mod@super::measure`] acts on them.

use std::time::Duration;

/// Fewest devices of the readings. A device measures once a second at most.
const DEVICES_MIN: u32 = 1000;

/// Partitions of the topic, as `worker migrate` makes them.
pub(super) const PARTITIONS: u32 = 12;

/// The settings of `bench pipeline`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// Readings per second; each is a body of its own, except those that full caches send again.
    #[arg(long, default_value_t = 2200.0)]
    pub(super) rate: f64,
    /// Duration of a run, after its warm-up.
    #[arg(long, default_value = "60s", value_parser = crate::fleet::duration)]
    pub(super) duration: Duration,
    /// Time at the start of a run that does not count.
    #[arg(long, default_value = "30s", value_parser = crate::fleet::duration)]
    pub(super) warm_up: Duration,
    /// Number of runs; each must meet every target.
    #[arg(long, default_value_t = 1)]
    pub(super) runs: usize,
    /// Write the figures to a file under tests/bench/results, with this word in the file's name.
    #[arg(long)]
    pub(super) save: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let (duration, warm_up) = (Duration::from_secs(60), Duration::from_secs(30));
        Self { rate: 2200.0, duration, warm_up, runs: 1, save: None }
    }
}

impl Settings {
    /// Returns the number of devices of the readings.
    pub(super) fn devices(&self) -> u32 {
        DEVICES_MIN.max(self.rate.ceil() as u32)
    }
}
