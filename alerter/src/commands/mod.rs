//! The commands beside the service. Each reads or changes the tables, and ends.

pub mod accounts;
pub mod backtest;
pub mod outbox;
pub mod recipients;
pub mod report;
pub mod rules;
pub mod send_test;
pub mod silence;

use std::process::{ExitCode, Termination};

use anyhow::Context;
use clap::Args;
use ljwx_ledger::mysql::{MySqlArgs, MySqlPool};
use ljwx_reading::DeviceSn;
use ljwx_service::config::{Problems, ZoneArgs};
use tokio::runtime::Builder;

/// Settings of the alerter's tables, and of the zone in which a command reads and prints times.
#[derive(Debug, Clone, Args)]
pub struct DatabaseArgs {
    /// The connection to MySQL.
    #[command(flatten)]
    pub mysql: MySqlArgs,
    /// The devices' zone.
    #[command(flatten)]
    pub zone: ZoneArgs,
}

impl DatabaseArgs {
    fn validate(&self, problems: &mut Problems) {
        self.mysql.validate(problems);
    }

    fn connect(&self) -> anyhow::Result<MySqlPool> {
        self.mysql.connect(&self.zone.zone).context("--mysql-url")
    }
}

/// Parses the serial number of a device.
fn device_sn(text: &str) -> Result<DeviceSn, String> {
    DeviceSn::new(text.trim())
        .ok_or_else(|| "write a serial number of 1 to 64 visible ASCII characters".to_owned())
}

/// Runs a command to its end on this thread, and returns its code. Prints its error, and then
/// returns the code of a failure.
pub fn run<T: Termination>(command: impl Future<Output = anyhow::Result<T>>) -> ExitCode {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime");
    let ended = runtime.and_then(|runtime| runtime.block_on(command));
    ended.map(T::report).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
