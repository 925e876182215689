//! The commands beside the service. Each reads or changes the tables, and ends.

pub mod accounts;
pub mod backtest;
mod layout;
pub mod outbox;
pub mod recipients;
pub mod report;
pub mod rules;
pub mod send_test;
pub mod silence;

use std::io::{self, Write};
use std::process::{ExitCode, Termination};

use anyhow::Context;
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ljwx_ledger::mysql::MySqlArgs;
use ljwx_reading::{DeviceSn, wall_text};
use ljwx_service::config::{Problems, ZoneArgs};
use ljwx_service::telemetry::TelemetryArgs;
use serde::Serialize;
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
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

impl DatabaseArgs {
    fn validate(&self, problems: &mut Problems) {
        self.mysql.validate(problems);
        self.telemetry.validate(problems);
    }
}

/// Parses the serial number of a device.
fn device_sn(text: &str) -> Result<DeviceSn, String> {
    DeviceSn::new(text.trim())
        .ok_or_else(|| "write a serial number of 1 to 64 visible ASCII characters".to_owned())
}

/// Formats milliseconds since 1970 as wall-clock time of `zone`.
fn wall(epoch_ms: i64, zone: &TimeZone) -> String {
    // Beyond the calendar, print the number.
    Timestamp::from_millisecond(epoch_ms)
        .map_or_else(|_| epoch_ms.to_string(), |at| wall_text(zone.to_datetime(at)))
}

/// Prints what a command found: one JSON document, or what `text` prints for people.
fn print_found<T: Serialize, W: Write>(
    json: bool,
    found: &T,
    out: &mut W,
    text: impl FnOnce(&T, &mut W) -> io::Result<()>,
) -> io::Result<()> {
    if !json {
        return text(found, out);
    }
    serde_json::to_writer_pretty(&mut *out, found)?;
    writeln!(out)
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
