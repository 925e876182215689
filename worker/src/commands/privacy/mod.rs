//! `worker erase` and `worker export`: what is stored of a device or of a user.
//!
//! `subject` finds the devices, and `parts` names the tables and their rows, for both commands. So
//! nothing is exported that is not erased, or the reverse. `alert_state` and `journal`, `alert_rows`,
//! `redis_hash` and `topics` know the rest.

mod alert_rows;
mod alert_state;
mod args;
mod erase;
mod export;
mod holdings;
mod journal;
mod parts;
mod print;
mod redis_hash;
mod subject;
mod topics;

use std::process::ExitCode;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

pub use args::{EraseArgs, SubjectArgs};

/// Erases what is stored of a device or a user, or prints what would be erased.
pub async fn erase(config: &EraseArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let done = stop.run_until_cancelled(erase::run(config)).await;
    done.context("interrupted; the same command continues")?
}

/// Writes what is stored of a device or a user to standard output.
pub async fn export(config: &SubjectArgs) -> anyhow::Result<ExitCode> {
    export::run(config).await
}
