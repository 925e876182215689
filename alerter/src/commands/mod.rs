//! The commands beside the service. Each reads or changes the tables, and ends.

pub mod accounts;
pub mod backtest;
mod layout;
pub mod outbox;
pub mod recipients;
pub mod report;
pub mod rule_source;
pub mod rules;
pub mod send_test;
pub mod silence;

use anyhow::Context;
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ljwx_ledger::mysql::MySqlArgs;
use ljwx_reading::wall_text;
use ljwx_service::config::{Problems, ZoneArgs};
use ljwx_service::telemetry::TelemetryArgs;

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

/// Formats milliseconds since 1970 as wall-clock time of `zone`.
fn wall(epoch_ms: i64, zone: &TimeZone) -> String {
    // Beyond the calendar, print the number.
    Timestamp::from_millisecond(epoch_ms)
        .map_or_else(|_| epoch_ms.to_string(), |at| wall_text(zone.to_datetime(at)))
}

/// Runs a command's work to its end on this thread.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(work)
}
