//! Whether a process's main loop turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use metrics::gauge;
use tokio::time::Instant;

use crate::metrics::LOOP_TURNED;

/// How long the loop may be silent before the process counts as stuck.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How often a loop that waits for another server shows that it is alive.
const WAITING_INTERVAL: Duration = Duration::from_secs(1);

/// Shared by the loop, which turns, and the probe, which asks.
#[derive(Debug, Clone)]
pub struct Pulse {
    start: Instant,
    /// Milliseconds from the start to the last turn.
    turned: Arc<AtomicU64>,
}

impl Pulse {
    /// The pulse of a loop that begins now.
    pub fn new() -> Self {
        let pulse = Self { start: Instant::now(), turned: Arc::default() };
        pulse.turn();
        pulse
    }

    /// The loop has turned.
    pub fn turn(&self) {
        self.turned.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
        gauge!(LOOP_TURNED).set(Timestamp::now().as_duration().as_secs_f64());
    }

    /// Waits for another server. However long that takes, the loop is not stuck: a restart would
    /// not bring the server back.
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

    /// Whether the loop turns; the error says for how long it has not.
    pub fn check(&self) -> Result<(), String> {
        let turned = Duration::from_millis(self.turned.load(Ordering::Relaxed));
        let silent = self.start.elapsed().saturating_sub(turned);
        if silent > SILENCE_MAX {
            return Err(format!("the loop has not turned for {} s", silent.as_secs()));
        }
        Ok(())
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_does_not_turn_is_stuck_and_one_that_waits_for_a_server_is_not() {
        let pulse = Pulse::new();
        pulse.during(tokio::time::sleep(SILENCE_MAX * 10)).await;
        assert_eq!(pulse.check(), Ok(()));
        tokio::time::advance(SILENCE_MAX + Duration::from_secs(2)).await;
        let stuck = pulse.check().unwrap_err();
        assert!(stuck.starts_with("the loop has not turned for 3"), "{stuck}");
        pulse.turn();
        assert_eq!(pulse.check(), Ok(()));
    }
}
