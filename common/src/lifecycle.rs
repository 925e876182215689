//! Starting and stopping: one token says that the process should end, one deadline bounds how. A
//! process that has lost a part of itself ends, too: what supervises it starts a whole one.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
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

/// The tasks without which the process must not go on.
#[derive(Debug, Clone)]
pub struct Vital {
    lost: watch::Sender<Option<&'static str>>,
}

impl Vital {
    /// No tasks yet.
    pub fn new() -> Self {
        Self { lost: watch::Sender::new(None) }
    }

    /// Starts a task that ends after `stop` only; by a panic or by itself before, it is lost.
    pub fn spawn(
        &self,
        name: &'static str,
        stop: &CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let (lost, stop) = (self.lost.clone(), stop.clone());
        let task = tokio::spawn(task);
        tokio::spawn(async move {
            // The panic itself has been reported by its hook.
            let panicked = task.await.is_err();
            if !stop.is_cancelled() {
                error!(task = name, panicked, "a vital task has ended; the process stops");
                lost.send_replace(Some(name));
            }
        })
    }

    /// Brings `work` to its end. Where a task is lost meanwhile, `stop` tells the work to end, and the
    /// loss is its error.
    pub async fn during<T>(
        &self,
        stop: &CancellationToken,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        tokio::pin!(work);
        let mut lost = self.lost.subscribe();
        let lost = async { lost.wait_for(Option::is_some).await.map_or(None, |name| *name) };
        tokio::select! {
            done = &mut work => done,
            Some(name) = lost => {
                stop.cancel();
                work.await?;
                Err(anyhow!("lost: {name}"))
            }
        }
    }
}

impl Default for Vital {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits for `work` at most until `deadline`; `None` where it ran out.
pub async fn within<T>(deadline: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(deadline, work).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of work that lasts until it is told to stop, beside `task`.
    async fn beside(task: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        let (vital, stop) = (Vital::new(), CancellationToken::new());
        vital.spawn("the task", &stop, task);
        let work = async {
            stop.cancelled().await;
            Ok(())
        };
        vital.during(&stop, work).await
    }

    #[tokio::test]
    async fn a_task_that_panics_or_ends_by_itself_ends_the_process_in_order() {
        let panics = beside(async { panic!("on purpose") }).await;
        assert_eq!(panics.unwrap_err().to_string(), "lost: the task");
        assert_eq!(beside(async {}).await.unwrap_err().to_string(), "lost: the task");
    }

    #[tokio::test]
    async fn a_task_that_ends_when_it_is_told_to_is_not_lost() {
        let (vital, stop) = (Vital::new(), CancellationToken::new());
        let task = vital.spawn("the task", &stop, stop.clone().cancelled_owned());
        let work = async {
            stop.cancel();
            Ok(task.await?)
        };
        assert!(vital.during(&stop, work).await.is_ok());
    }
}
