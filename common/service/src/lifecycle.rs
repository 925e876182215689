//! Starts and stops a process. One token requests the end, one deadline bounds the time that the
//! end takes.
//!
//! A process that loses a vital task also ends: its supervisor starts a complete process.

use std::future::Future;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::config::{Problems, duration};
use crate::telemetry::{FLUSH_TIMEOUT, Telemetry};

/// Time that tasks of the runtime have to end after the service.
const RUNTIME_TIMEOUT: Duration = Duration::from_millis(500);

/// Time reserved for the exit of the process after the service has ended.
const EXIT: Duration = Duration::from_millis(500);

/// Part of a stop that comes after the service: the last spans, remaining tasks, the exit.
pub const PROCESS_END: Duration =
    FLUSH_TIMEOUT.saturating_add(RUNTIME_TIMEOUT).saturating_add(EXIT);

/// Shortest time for a process to stop: a few seconds more than the last spans may take.
const DRAIN_TIMEOUT_MIN: Duration = Duration::from_secs(10);

/// Settings of the stop.
#[derive(Debug, Clone, clap::Args)]
pub struct LifecycleArgs {
    /// Time from SIGTERM to the exit of the process. A supervisor must wait longer.
    #[arg(long, env = "DRAIN_TIMEOUT", default_value = "20s", value_parser = duration)]
    pub drain_timeout: Duration,
}

impl LifecycleArgs {
    /// Adds the problems of these settings.
    pub fn validate(&self, problems: &mut Problems) {
        problems.require(self.drain_timeout >= DRAIN_TIMEOUT_MIN, || {
            "--drain-timeout must be at least 10s: the last spans alone may take 2 s".into()
        });
    }
}

/// A step of the stop. Each step ends at its share of the time, however long the earlier steps
/// took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownStep {
    /// Finish what was taken in.
    Drain,
    /// Leave the consumer group. A broker may delay a member that leaves during a rebalance.
    Leave,
    /// Close connections.
    Close,
}

impl ShutdownStep {
    /// The end of the step, as a share of the service's time.
    const fn end(self) -> f64 {
        match self {
            Self::Drain => 0.75,
            Self::Leave => 0.95,
            Self::Close => 1.0,
        }
    }
}

/// The one deadline of a stop. It starts with the signal, so the waits of the steps do not add up.
#[derive(Debug, Clone)]
pub struct Deadline {
    stop: CancellationToken,
    begun: Arc<OnceLock<Instant>>,
    /// Time from the signal to the end of the service. `PROCESS_END` follows.
    whole: Duration,
}

impl Deadline {
    /// Creates the deadline of a process that may take `drain_timeout` from `stop` to its exit.
    pub fn new(drain_timeout: Duration, stop: CancellationToken) -> Self {
        let begun = Arc::<OnceLock<Instant>>::default();
        let whole = drain_timeout.saturating_sub(PROCESS_END);
        let deadline = Self { stop, begun, whole };
        // A step may begin to wait late, but its time runs from the signal on.
        let clock = deadline.clone();
        tokio::spawn(async move { clock.begin().await });
        deadline
    }

    async fn begin(&self) -> Instant {
        self.stop.cancelled().await;
        *self.begun.get_or_init(Instant::now)
    }

    /// Waits until the time of `step` is over. Never returns unless the process is stopping.
    pub async fn passed(&self, step: ShutdownStep) {
        let begun = self.begin().await;
        tokio::time::sleep_until(begun + self.whole.mul_f64(step.end())).await;
    }

    /// Waits for `work` as long as `step` may take. Returns `None` if the time runs out.
    pub async fn within<T>(&self, step: ShutdownStep, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.passed(step) => None,
        }
    }
}

/// Creates a token that SIGTERM or SIGINT cancels.
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

/// Runs a service from start to end: runtime, telemetry, the service itself, last spans.
pub fn run<F>(telemetry: impl FnOnce() -> anyhow::Result<Telemetry>, service: F) -> ExitCode
where
    F: AsyncFnOnce(&Telemetry, CancellationToken) -> anyhow::Result<()>,
{
    run_to_code(telemetry, ExitCode::FAILURE, async |telemetry, stop| {
        service(telemetry, stop).await.map(|()| ExitCode::SUCCESS)
    })
}

/// Runs a command that returns its exit code. `failed` is the code of a command that ends with an
/// error.
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
    let code = runtime.block_on(async {
        let telemetry = match telemetry() {
            Ok(telemetry) => telemetry,
            Err(error) => {
                eprintln!("error: cannot set up telemetry: {error:#}");
                return failed;
            }
        };
        let result = async { command(&telemetry, shutdown_on_signal()?).await }.await;
        let code = result.unwrap_or_else(|error| {
            error!(error = format!("{error:#}"), "process stopped by an error");
            failed
        });
        telemetry.shutdown().await;
        code
    });
    // Blocking calls that still wait for a server get this time. Then they are abandoned.
    runtime.shutdown_timeout(RUNTIME_TIMEOUT);
    code
}

/// Runs a command that may end at any point, until `stop`.
pub async fn interruptible<T>(
    stop: &CancellationToken,
    command: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    stop.run_until_cancelled(command).await.context("interrupted")?
}

/// The vital tasks of a process. If one of them ends early, the process stops.
#[derive(Debug, Clone)]
pub struct EssentialTasks {
    lost: watch::Sender<Option<&'static str>>,
}

impl EssentialTasks {
    /// Creates an empty set of tasks.
    pub fn new() -> Self {
        Self { lost: watch::Sender::new(None) }
    }

    /// Starts a vital task. A task that ends before `stop`, by a panic or by itself, is lost.
    pub fn spawn(
        &self,
        name: &'static str,
        stop: &CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let (lost, stop) = (self.lost.clone(), stop.clone());
        let task = tokio::spawn(task);
        tokio::spawn(async move {
            // The panic hook has logged the panic itself.
            let panicked = task.await.is_err();
            if !stop.is_cancelled() {
                error!(task = name, panicked, "essential task ended, stopping the process");
                lost.send_replace(Some(name));
            }
        })
    }

    /// Runs `work` to its end. If a vital task is lost meanwhile, cancels `stop`, waits for `work`
    /// and returns the loss as the error.
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

impl Default for EssentialTasks {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits for `work` at most for `deadline`. Returns `None` if the time runs out.
pub async fn within<T>(deadline: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(deadline, work).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the result of work that lasts until `stop`, with `task` as a vital task.
    async fn beside(task: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        let (essential, stop) = (EssentialTasks::new(), CancellationToken::new());
        essential.spawn("the task", &stop, task);
        let work = async {
            stop.cancelled().await;
            Ok(())
        };
        essential.during(&stop, work).await
    }

    #[tokio::test]
    async fn a_task_that_panics_or_ends_by_itself_ends_the_process_in_order() {
        let panics = beside(async { panic!("on purpose") }).await;
        assert_eq!(panics.unwrap_err().to_string(), "lost: the task");
        assert_eq!(beside(async {}).await.unwrap_err().to_string(), "lost: the task");
    }

    #[tokio::test]
    async fn a_task_that_ends_when_it_is_told_to_is_not_lost() {
        let (essential, stop) = (EssentialTasks::new(), CancellationToken::new());
        let task = essential.spawn("the task", &stop, stop.clone().cancelled_owned());
        let work = async {
            stop.cancel();
            Ok(task.await?)
        };
        assert!(essential.during(&stop, work).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn steps_share_one_deadline_that_begins_with_the_signal() {
        let stop = CancellationToken::new();
        let deadline = Deadline::new(Duration::from_secs(20), stop.clone());
        let hour = tokio::time::sleep(Duration::from_secs(3600));
        assert_eq!(
            deadline.within(ShutdownStep::Drain, hour).await,
            Some(()),
            "nobody has to stop"
        );
        stop.cancel();
        let signalled = Instant::now();
        tokio::task::yield_now().await;
        let never = std::future::pending::<()>;
        for (step, seconds) in [
            (ShutdownStep::Drain, 12.75),
            (ShutdownStep::Leave, 16.15),
            (ShutdownStep::Close, 17.0),
        ] {
            assert_eq!(deadline.within(step, never()).await, None);
            let took = signalled.elapsed().as_secs_f64();
            assert!((took - seconds).abs() < 0.01, "{step:?} ended after {took} s");
        }
        let late = deadline.within(ShutdownStep::Drain, std::future::ready(())).await;
        assert_eq!(late, Some(()), "what is done is done");
    }
}
