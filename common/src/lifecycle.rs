//! Starting and stopping: one token says that the process should end, one deadline bounds how.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::config::duration;
use crate::telemetry::Telemetry;

/// Settings of stopping.
#[derive(Debug, Clone, clap::Args)]
pub struct LifecycleArgs {
    /// How long the process may take to drain after SIGTERM; a supervisor must wait longer.
    #[arg(long, env = "DRAIN_TIMEOUT", default_value = "20s", value_parser = duration)]
    pub drain_timeout: Duration,
}

/// A token that is cancelled by SIGTERM or SIGINT.
pub fn shutdown_on_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => info!("received SIGTERM, draining"),
            _ = interrupt.recv() => info!("received SIGINT, draining"),
        }
        cancelled.cancel();
    });
    Ok(token)
}

/// Runs a service to its end: runtime, telemetry, the service itself, telemetry flushed.
pub fn run<F>(telemetry: impl FnOnce() -> anyhow::Result<Telemetry>, service: F) -> ExitCode
where
    F: AsyncFnOnce(&Telemetry, CancellationToken) -> anyhow::Result<()>,
{
    run_to_code(telemetry, ExitCode::FAILURE, async |telemetry, stop| {
        service(telemetry, stop).await.map(|()| ExitCode::SUCCESS)
    })
}

/// Runs a command whose exit code is its answer; `failed` is the one for no answer at all.
pub fn run_to_code<F>(
    telemetry: impl FnOnce() -> anyhow::Result<Telemetry>,
    failed: ExitCode,
    command: F,
) -> ExitCode
where
    F: AsyncFnOnce(&Telemetry, CancellationToken) -> anyhow::Result<ExitCode>,
{
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the runtime: {error}");
            return failed;
        }
    };
    runtime.block_on(async {
        let telemetry = match telemetry() {
            Ok(telemetry) => telemetry,
            Err(error) => {
                eprintln!("error: cannot set up telemetry: {error:#}");
                return failed;
            }
        };
        let result = async { command(&telemetry, shutdown_on_signal()?).await }.await;
        let code = result.unwrap_or_else(|error| {
            error!(error = format!("{error:#}"), "stopped because of an error");
            failed
        });
        telemetry.shutdown().await;
        code
    })
}

/// Waits for `work` at most until `deadline`; `None` where it ran out.
pub async fn within<T>(deadline: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(deadline, work).await.ok()
}
