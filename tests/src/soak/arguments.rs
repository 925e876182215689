//! The arguments of a soak run, and the settings of its fleet that follow from them.
//! [`mod@super::run`] acts on them.

use std::time::Duration;

use anyhow::ensure;
use clap::Parser;

use super::fault::Fault;
use crate::fleet::{Settings, duration};

/// Most connections of the fleet to the gateway.
pub(super) const CONNECTIONS: usize = 256;

/// Run the whole pipeline under load, strike it with a random fault every few minutes, and account
/// for every reading and notification at the end.
///
/// Start it through `deploy/stack run -- target/release/soak`.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// Seed of faults and readings: the same seed gives the same schedule. Random if absent.
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// Duration of the load, such as 90m.
    #[arg(long, default_value = "90m", value_parser = duration)]
    pub(super) length: Duration,
    /// Time between the starts of two faults. A fault waits for the recovery from the one before.
    #[arg(long, default_value = "2m", value_parser = duration)]
    pub(super) fault_every: Duration,
    /// Readings per second of all devices together.
    #[arg(long, default_value_t = 2100.0)]
    pub(super) rate: f64,
    /// Number of simulated devices; by default each measures once a second.
    #[arg(long)]
    devices: Option<u32>,
    /// Strike with faults of this kind alone.
    #[arg(long, value_enum)]
    pub(super) only: Option<Fault>,
    /// Write the summary to a file under tests/soak/results.
    #[arg(long)]
    pub(super) save: bool,
}

impl Arguments {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.fault_every.is_zero(), "--fault-every must be above 0");
        ensure!(
            self.length >= self.fault_every * 2,
            "--length must be at least twice --fault-every: the first fault comes after this time, \
             and the last leaves as much for its recovery"
        );
        Ok(())
    }

    /// Returns the settings of the fleet that sends to `url`.
    pub(super) fn fleet(&self, seed: u64, url: String, serial_prefix: String) -> Settings {
        Settings {
            url,
            devices: self.devices.unwrap_or(self.rate.ceil() as u32),
            rate: self.rate,
            duration: self.length,
            seed,
            // The alerts of a run are those of the patients, whose course is known.
            drifting: 0,
            serial_prefix,
            connections: CONNECTIONS,
            ..Settings::default()
        }
    }
}
