//! Derives a producer's health from its statistics: reachable brokers, the queue, its rate.
//!
//! Leaves publishing to `publisher` and the answer to a full queue to the caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metrics::gauge;
use rdkafka::error::KafkaError;
use rdkafka::{ClientContext, Statistics};
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::metrics::{
    BROKER_RTT_SECONDS, BROKER_UP, PRODUCER_QUEUE_RECORDS, PRODUCER_UNREACHABLE_SECONDS, flag,
};

/// Interval of the producer's statistics.
pub(super) const STATISTICS_INTERVAL: Duration = Duration::from_secs(1);

/// Shortest and longest result of [`ProducerHealth::retry_after`], in seconds.
const RETRY_AFTER_RANGE: (f64, f64) = (1.0, 60.0);

/// The health of a producer, shared with its callbacks.
#[derive(Debug, Clone)]
pub(super) struct ProducerHealth {
    start: Instant,
    sent_total: Arc<AtomicI64>,
    /// Records sent a second, as the bits of an `f64`.
    drain_rate: Arc<AtomicU64>,
    /// Milliseconds from `start` to the last time a broker was up.
    up_at: Arc<AtomicU64>,
    /// Whether the outage has been logged.
    logged: Arc<AtomicBool>,
    /// Signals that the producer has reported an error, possibly a fatal one.
    error_reported: Arc<Notify>,
}

impl Default for ProducerHealth {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            sent_total: Arc::default(),
            drain_rate: Arc::default(),
            up_at: Arc::default(),
            logged: Arc::default(),
            error_reported: Arc::default(),
        }
    }
}

impl ProducerHealth {
    /// Waits until the producer reports an error.
    pub(super) async fn error_reported(&self) {
        self.error_reported.notified().await;
    }

    /// Returns the time without a reachable broker. Zero while a broker is reachable.
    pub(super) fn unreachable_for(&self) -> Duration {
        let up_at = Duration::from_millis(self.up_at.load(Ordering::Relaxed));
        let since = self.start.elapsed().saturating_sub(up_at);
        since.saturating_sub(STATISTICS_INTERVAL * 2)
    }

    /// Logs the start and the end of an outage of Kafka, once each.
    fn log_reachability(&self) {
        let unreachable = !self.unreachable_for().is_zero();
        if self.logged.swap(unreachable, Ordering::Relaxed) != unreachable {
            if unreachable {
                warn!("Kafka unreachable, no record is acknowledged");
            } else {
                info!("Kafka reachable again");
            }
        }
    }

    /// Returns the whole seconds until `waiting` records will have drained. `random` in 0..1
    /// spreads the results.
    pub(super) fn retry_after(&self, waiting: i32, random: f64) -> u64 {
        let rate = f64::from_bits(self.drain_rate.load(Ordering::Relaxed));
        let seconds = if rate >= 1.0 && self.unreachable_for().is_zero() {
            f64::from(waiting) / rate
        } else {
            self.unreachable_for().as_secs_f64() / 2.0
        };
        let spread = seconds * (1.0 + random.clamp(0.0, 1.0) / 2.0);
        spread.clamp(RETRY_AFTER_RANGE.0, RETRY_AFTER_RANGE.1).ceil() as u64
    }
}

impl ClientContext for ProducerHealth {
    fn error(&self, error: KafkaError, reason: &str) {
        warn!(%error, reason, "Kafka producer reported an error");
        self.error_reported.notify_one();
    }

    fn stats(&self, statistics: Statistics) {
        let sent = statistics.txmsgs;
        let before = self.sent_total.swap(sent, Ordering::Relaxed);
        let rate = (sent - before) as f64 / STATISTICS_INTERVAL.as_secs_f64();
        self.drain_rate.store(rate.to_bits(), Ordering::Relaxed);
        // Broker -1 is a bootstrap address. It counts too: before the first metadata there may be
        // no other broker.
        if statistics.brokers.values().any(|broker| broker.state == "UP") {
            self.up_at.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
        }
        self.log_reachability();
        gauge!(PRODUCER_QUEUE_RECORDS).set(statistics.msg_cnt as f64);
        gauge!(PRODUCER_UNREACHABLE_SECONDS).set(self.unreachable_for().as_secs_f64());
        // Bootstrap addresses have negative ids. Their statistics describe no particular broker.
        for broker in statistics.brokers.values().filter(|broker| broker.nodeid >= 0) {
            let id = broker.nodeid.to_string();
            gauge!(BROKER_UP, "broker" => id.clone()).set(flag(broker.state == "UP"));
            let Some(rtt) = &broker.rtt else { continue };
            for (statistic, micros) in [("p50", rtt.p50), ("p99", rtt.p99)] {
                gauge!(BROKER_RTT_SECONDS, "broker" => id.clone(), "statistic" => statistic)
                    .set(micros as f64 / 1e6);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_follows_the_queue_and_the_outage() {
        let state = ProducerHealth::default();
        state.drain_rate.store(1000.0_f64.to_bits(), Ordering::Relaxed);
        assert_eq!(state.retry_after(10, 0.0), 1);
        assert_eq!(state.retry_after(10_000, 0.0), 10);
        assert_eq!(state.retry_after(10_000, 1.0), 15);
        assert_eq!(state.retry_after(10_000_000, 0.0), 60);

        let down = ProducerHealth {
            start: Instant::now() - Duration::from_millis(41_500),
            ..ProducerHealth::default()
        };
        assert_eq!(down.retry_after(10, 0.0), 20);
    }
}
