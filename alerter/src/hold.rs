//! Waiting out an outage of MySQL: the batch stays, offsets stand still, the process lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::backoff::Backoff;
use common::metrics::{BATCH_HELD, flag};
use common::pulse::Pulse;
use metrics::{counter, gauge};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::COMMIT_RETRIES;

/// First wait after a failure.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// Longest wait between attempts.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The process is stopping and MySQL still does not answer; what is held is replayed by its next
/// owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GaveUp;

/// Tries again until it works.
#[derive(Debug, Clone)]
pub struct Hold {
    stop: CancellationToken,
    drain_timeout: Duration,
    /// How many are being tried again right now.
    holding: Arc<AtomicUsize>,
    pulse: Pulse,
}

impl Hold {
    /// Gives up only `drain_timeout` after `stop`.
    ///
    /// `pulse` is the loop's, which does not turn meanwhile.
    pub fn new(stop: CancellationToken, drain_timeout: Duration, pulse: Pulse) -> Self {
        gauge!(BATCH_HELD).set(0.0);
        Self { stop, drain_timeout, holding: Arc::default(), pulse }
    }

    /// Whether something is being tried again right now.
    pub fn is_holding(&self) -> bool {
        self.holding.load(Ordering::Relaxed) > 0
    }

    /// The pulse of the loop.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Said once; an outage of hours would fill the log.
    fn hold(&self, what: &'static str, error: &impl std::fmt::Display) {
        if self.holding.fetch_add(1, Ordering::Relaxed) == 0 {
            gauge!(BATCH_HELD).set(flag(true));
            warn!(what, %error, "MySQL does not take it; held and tried again");
        }
    }

    fn release(&self, what: &'static str) {
        if self.holding.fetch_sub(1, Ordering::Relaxed) == 1 {
            gauge!(BATCH_HELD).set(flag(false));
            info!(what, "MySQL takes it again");
        }
    }

    /// Runs `attempt` until it succeeds. It has no other end than success and the process's own:
    /// an outage costs nothing but time, passing it over would lose alerts.
    pub async fn until_done<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
        &self,
        what: &'static str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, GaveUp> {
        let mut backoff = Backoff::new(WAIT_MIN, WAIT_MAX);
        let trying = async {
            let mut held = false;
            loop {
                match attempt().await {
                    Ok(done) => {
                        if held {
                            self.release(what);
                        }
                        break done;
                    }
                    Err(error) => {
                        counter!(COMMIT_RETRIES).increment(1);
                        if !std::mem::replace(&mut held, true) {
                            self.hold(what, &error);
                        }
                        tokio::time::sleep(backoff.next(rand::random())).await;
                    }
                }
            }
        };
        let deadline = async {
            self.stop.cancelled().await;
            tokio::time::sleep(self.drain_timeout).await;
        };
        tokio::select! {
            done = self.pulse.during(trying) => Ok(done),
            () = deadline => Err(GaveUp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_tried_again_until_it_works() {
        let hold = Hold::new(CancellationToken::new(), Duration::from_secs(1), Pulse::new());
        let mut attempts = 0;
        let done = hold
            .until_done("test", || {
                attempts += 1;
                std::future::ready(if attempts < 100 { Err("down") } else { Ok(attempts) })
            })
            .await;
        assert_eq!(done, Ok(100));
        assert!(!hold.is_holding());
    }

    #[tokio::test(start_paused = true)]
    async fn it_gives_up_only_when_the_process_has_to_end() {
        let stop = CancellationToken::new();
        stop.cancel();
        let hold = Hold::new(stop, Duration::from_secs(20), Pulse::new());
        let begun = tokio::time::Instant::now();
        let done: Result<(), _> = hold.until_done("test", async || Err("down")).await;
        assert_eq!(done, Err(GaveUp));
        assert_eq!(begun.elapsed(), Duration::from_secs(20));
    }
}
