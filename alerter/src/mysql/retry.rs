//! Retries during an outage of MySQL: the batch stays, the offsets do not advance, and the process
//! keeps running.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ljwx_ledger::metrics::BATCH_HELD;
use ljwx_service::backoff::Backoff;
use ljwx_service::heartbeat::Heartbeat;
use ljwx_service::lifecycle::{Deadline, ShutdownStep};
use ljwx_service::metrics::flag;
use metrics::{counter, gauge};
use tracing::{info, warn};

use crate::metrics::COMMIT_RETRIES;

/// First wait after a failure.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// Longest wait between attempts.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The process is stopping and MySQL still does not answer. The next owner of the partition
/// processes the work again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the process is stopping")]
pub struct Stopping;

/// Retries an operation until it succeeds.
#[derive(Debug, Clone)]
pub struct MysqlRetry {
    deadline: Deadline,
    /// The operations that are being retried now, once for each caller.
    retried: Arc<Mutex<Vec<String>>>,
    heartbeat: Heartbeat,
}

/// An operation that is being retried. The drop ends the retry, also if its caller is aborted.
struct Retried<'a> {
    retry: &'a MysqlRetry,
    operation: &'a str,
    recovered: bool,
}

impl Drop for Retried<'_> {
    fn drop(&mut self) {
        let mut retried = self.retry.retried();
        if let Some(at) = retried.iter().position(|one| one == self.operation) {
            retried.swap_remove(at);
        }
        if self.recovered && !retried.iter().any(|one| one == self.operation) {
            info!(operation = self.operation, "MySQL operation recovered");
        }
        gauge!(BATCH_HELD).set(flag(!retried.is_empty()));
    }
}

impl MysqlRetry {
    /// Returns a retry that stops only if the process has to end.
    ///
    /// `heartbeat` belongs to the main loop, which does not turn during a retry.
    pub fn new(deadline: Deadline, heartbeat: Heartbeat) -> Self {
        gauge!(BATCH_HELD).set(0.0);
        Self { deadline, retried: Arc::default(), heartbeat }
    }

    /// Returns the same retry for another loop, with that loop's heartbeat.
    pub fn with_heartbeat(&self, heartbeat: Heartbeat) -> Self {
        Self { heartbeat, ..self.clone() }
    }

    /// Whether an operation is being retried now.
    pub fn is_retrying(&self) -> bool {
        !self.retried().is_empty()
    }

    /// Returns the heartbeat of the loop that uses this retry.
    pub fn heartbeat(&self) -> &Heartbeat {
        &self.heartbeat
    }

    fn retried(&self) -> MutexGuard<'_, Vec<String>> {
        self.retried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs once an operation: a line for each attempt would fill the log in an outage of hours.
    fn begin_retry<'a>(&'a self, operation: &'a str, error: &impl Display) -> Retried<'a> {
        let mut retried = self.retried();
        if !retried.iter().any(|one| one == operation) {
            warn!(operation, %error, "MySQL operation failed, retrying");
        }
        retried.push(operation.to_owned());
        gauge!(BATCH_HELD).set(flag(true));
        Retried { retry: self, operation, recovered: false }
    }

    /// Runs `attempt` until it succeeds or the process has to end. An outage costs only time. To
    /// skip the operation would lose alerts.
    pub async fn until_done<T, E: Display, F: Future<Output = Result<T, E>>>(
        &self,
        operation: &str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Stopping> {
        let mut backoff = Backoff::new(WAIT_MIN, WAIT_MAX);
        let trying = async {
            let error = match attempt().await {
                Ok(done) => return done,
                Err(error) => error,
            };
            let mut retried = self.begin_retry(operation, &error);
            loop {
                counter!(COMMIT_RETRIES).increment(1);
                tokio::time::sleep(backoff.next(rand::random())).await;
                if let Ok(done) = attempt().await {
                    retried.recovered = true;
                    return done;
                }
            }
        };
        self.deadline
            .within(ShutdownStep::Drain, self.heartbeat.during(trying))
            .await
            .ok_or(Stopping)
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_tried_again_until_it_works() {
        let deadline = Deadline::new(Duration::from_secs(20), CancellationToken::new());
        let hold = MysqlRetry::new(deadline, Heartbeat::new());
        let mut attempts = 0;
        let done = hold
            .until_done("test", || {
                attempts += 1;
                std::future::ready(if attempts < 100 { Err("down") } else { Ok(attempts) })
            })
            .await;
        assert_eq!(done, Ok(100));
        assert!(!hold.is_retrying());
    }

    #[tokio::test(start_paused = true)]
    async fn it_gives_up_only_when_the_process_has_to_end() {
        let stop = CancellationToken::new();
        stop.cancel();
        let deadline = Deadline::new(Duration::from_secs(20), stop);
        let hold = MysqlRetry::new(deadline.clone(), Heartbeat::new());
        let done: Result<(), _> = hold.until_done("test", async || Err("down")).await;
        assert_eq!(done, Err(Stopping));
        assert!(!hold.is_retrying(), "what was given up is still retried");
        let over = tokio::time::timeout(Duration::ZERO, deadline.passed(ShutdownStep::Drain)).await;
        assert_eq!(over, Ok(()), "it gave up before its time");
    }
}
