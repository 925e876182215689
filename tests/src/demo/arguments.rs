//! The arguments of the demo, and the settings of its fleet that follow from them.
//! [`mod@super::run`] acts on them.

use std::time::Duration;

use clap::Parser;

use crate::fleet::{Settings, duration};
use crate::stack::process::Service;
use crate::stack::world::World;

/// Duration of a smoke run.
const SMOKE: Duration = Duration::from_secs(30);

/// Run the whole pipeline on the real servers with a simulated fleet, show live figures, and
/// account for every reading at the end. Start it through `deploy/stack run -- target/debug/demo`.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// Run for 30 s, check the accounting, and exit 0 or 1.
    #[arg(long)]
    smoke: bool,
    /// Number of simulated devices.
    #[arg(long, default_value_t = 300)]
    pub(super) devices: u32,
    /// Readings per second of all devices together.
    #[arg(long, default_value_t = 200.0)]
    pub(super) rate: f64,
    /// Number of patients who drift into a breach and recover.
    #[arg(long, default_value_t = 3)]
    pub(super) drifting: u32,
    /// Longest duration of the run, such as 10m; Ctrl-C ends it earlier.
    #[arg(long, default_value = "2h", value_parser = duration)]
    duration: Duration,
    /// Seed of all random values.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Arguments {
    /// Returns the duration of the fleet.
    pub(super) const fn length(&self) -> Duration {
        if self.smoke { SMOKE } else { self.duration }
    }

    /// Returns the settings of the fleet that sends to `gateway` in this world.
    pub(super) fn fleet(&self, gateway: &Service, world: &World) -> Settings {
        Settings {
            url: gateway.url("/upload_health_data"),
            devices: self.devices,
            rate: self.rate,
            drifting: self.drifting,
            seed: self.seed,
            duration: self.length(),
            serial_prefix: world.serial_prefix(),
            ..Settings::default()
        }
    }
}
