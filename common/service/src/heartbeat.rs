//! Detects a loop that has stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use metrics::gauge;
use tokio::time::Instant;

use crate::metrics::LOOP_HEARTBEAT;

/// Usual longest time without a heartbeat before the process counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// Interval of the heartbeats while the loop waits for another server.
const WAITING_INTERVAL: Duration = Duration::from_secs(1);

/// The heartbeat of a loop. The loop sets it, the liveness probe reads it.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// The loop's name. `None`: the main loop, whose heartbeat is also a metric.
    name: Option<&'static str>,
    start: Instant,
    /// Longest time without a heartbeat before the process counts as stuck.
    stuck_after: Duration,
    /// Milliseconds from the start to the last heartbeat.
    turned: Arc<AtomicU64>,
}

impl Heartbeat {
    /// Creates the heartbeat of the main loop, which begins now.
    pub fn new() -> Self {
        Self::begin(None, STUCK_AFTER)
    }

    /// Creates the heartbeat of a main loop that begins now and is stuck after this time.
    pub fn with_limit(stuck_after: Duration) -> Self {
        Self::begin(None, stuck_after)
    }

    /// Creates the heartbeat of another loop, which begins now. The metric of the main loop leaves
    /// it out: a loop that runs would hide the other that does not.
    pub fn of(name: &'static str) -> Self {
        Self::begin(Some(name), STUCK_AFTER)
    }

    fn begin(name: Option<&'static str>, stuck_after: Duration) -> Self {
        let heartbeat = Self { name, start: Instant::now(), stuck_after, turned: Arc::default() };
        heartbeat.turn();
        heartbeat
    }

    /// Records a heartbeat.
    pub fn turn(&self) {
        self.turned.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
        if self.name.is_none() {
            gauge!(LOOP_HEARTBEAT).set(Timestamp::now().as_duration().as_secs_f64());
        }
    }

    /// Waits for another server, or for clients, and keeps the heartbeat going. A loop that waits
    /// for others is not stuck: a restart would not bring them.
    pub async fn during<T>(&self, wait: impl Future<Output = T>) -> T {
        let mut ticks = tokio::time::interval(WAITING_INTERVAL);
        tokio::pin!(wait);
        loop {
            tokio::select! {
                done = &mut wait => return done,
                _ = ticks.tick() => self.turn(),
            }
        }
    }

    /// Checks that the loop runs. The error states the time since the last heartbeat.
    pub fn check(&self) -> Result<(), String> {
        let turned = Duration::from_millis(self.turned.load(Ordering::Relaxed));
        let silent = self.start.elapsed().saturating_sub(turned);
        if silent > self.stuck_after {
            let name = self.name.unwrap_or("loop");
            return Err(format!("the {name} has not turned for {} s", silent.as_secs()));
        }
        Ok(())
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_does_not_turn_is_stuck_and_one_that_waits_for_a_server_is_not() {
        let heartbeat = Heartbeat::new();
        heartbeat.during(tokio::time::sleep(STUCK_AFTER * 10)).await;
        assert_eq!(heartbeat.check(), Ok(()));
        tokio::time::advance(STUCK_AFTER + Duration::from_secs(2)).await;
        let stuck = heartbeat.check().unwrap_err();
        assert!(stuck.starts_with("the loop has not turned for 3"), "{stuck}");
        heartbeat.turn();
        assert_eq!(heartbeat.check(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_loop_is_named() {
        let (main, sender) = (Heartbeat::new(), Heartbeat::of("sender"));
        tokio::time::advance(STUCK_AFTER + Duration::from_secs(2)).await;
        main.turn();
        assert_eq!(main.check(), Ok(()));
        assert_eq!(sender.check().unwrap_err(), "the sender has not turned for 32 s");
    }
}
