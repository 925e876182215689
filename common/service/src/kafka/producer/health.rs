//! Takes the callbacks of a producer: delivery reports, statistics, errors. Exports and logs what
//! they show.
//!
//! Leaves the judgement to `acknowledgement` and publishing to `publisher`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::gauge;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::{ClientContext, Statistics};
use tokio::sync::{Notify, oneshot};
use tracing::{info, warn};

use super::acknowledgement::{AckLimits, Acknowledgements, KafkaState};
use super::publish_error::PublishError;
use crate::kafka::error_log::ErrorLog;
use crate::metrics::{
    BROKER_RTT_SECONDS, BROKER_UP, PRODUCER_ACK_AGE_SECONDS, PRODUCER_QUEUE_RECORDS,
    PRODUCER_STALLED_SECONDS, flag,
};

/// Interval of the producer's statistics.
pub(super) const STATISTICS_INTERVAL: Duration = Duration::from_secs(1);

/// The partition and the offset of an acknowledged record, or why it is not known to be in Kafka.
pub(super) type DeliveryReport = Result<(i32, i64), PublishError>;

/// The health of a process's producers, one after the other. Shared with their callbacks.
#[derive(Debug, Clone)]
pub(super) struct ProducerHealth {
    acks: Arc<Mutex<Acknowledgements>>,
    /// Whether the present stall has been logged.
    logged: Arc<AtomicBool>,
    /// Signals that the producer has reported an error, possibly a fatal one.
    error_reported: Arc<Notify>,
    errors: Arc<ErrorLog>,
}

/// The place of a record in the queue. Dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Place {
    health: ProducerHealth,
    group: u64,
    bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.health.acks().give_back(self.group, self.bytes);
    }
}

/// The place of a record, and the receiver of its delivery report.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) place: Place,
    pub(super) report: oneshot::Sender<DeliveryReport>,
}

impl ProducerHealth {
    pub(super) fn new(limits: AckLimits) -> Self {
        Self {
            acks: Arc::new(Mutex::new(Acknowledgements::new(limits, Instant::now()))),
            logged: Arc::default(),
            error_reported: Arc::default(),
            errors: Arc::default(),
        }
    }

    pub(super) fn acks(&self) -> MutexGuard<'_, Acknowledgements> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for each record, by its accounted bytes. Without places for all, takes none.
    pub(super) fn places(&self, bytes: &[usize]) -> Result<Vec<Place>, PublishError> {
        let group = self.acks().take(bytes.len(), bytes.iter().sum(), Instant::now());
        let group = group.ok_or(PublishError::NoPlace)?;
        let place = |bytes: &usize| Place { health: self.clone(), group, bytes: *bytes };
        Ok(bytes.iter().map(place).collect())
    }

    /// Waits until the producer reports an error.
    pub(super) async fn error_reported(&self) {
        self.error_reported.notified().await;
    }

    /// Logs the start and the end of a stall, once each.
    fn log(&self, stalled: bool) {
        if self.logged.swap(stalled, Ordering::Relaxed) != stalled {
            if stalled {
                warn!("Kafka acknowledges no record, retrying");
            } else {
                info!("Kafka is no longer stalled");
            }
        }
    }
}

impl ClientContext for ProducerHealth {
    fn error(&self, error: KafkaError, reason: &str) {
        if self.errors.admits(&error) {
            warn!(%error, reason, "Kafka producer reported an error");
        }
        self.error_reported.notify_one();
    }

    fn stats(&self, statistics: Statistics) {
        let now = Instant::now();
        // Broker -1 is a bootstrap address. It counts too: before the first metadata there may be
        // no other broker.
        let is_reachable = statistics.brokers.values().any(|broker| broker.state == "UP");
        let (state, oldest) = {
            let mut acks = self.acks();
            if is_reachable {
                acks.broker_up(now);
            }
            (acks.state(now), acks.oldest(now))
        };
        let stalled = match state {
            KafkaState::Stalled { since } => Some(now.saturating_duration_since(since)),
            KafkaState::Flowing | KafkaState::Fatal { .. } => None,
        };
        self.log(stalled.is_some());
        gauge!(PRODUCER_STALLED_SECONDS).set(stalled.unwrap_or_default().as_secs_f64());
        gauge!(PRODUCER_ACK_AGE_SECONDS).set(oldest.as_secs_f64());
        gauge!(PRODUCER_QUEUE_RECORDS).set(statistics.msg_cnt as f64);
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

impl ProducerContext for ProducerHealth {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let Ticket { place, report } = *ticket;
        let delivered = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(PublishError::from(error.clone())),
        };
        match &delivered {
            Ok(_) => self.acks().succeeded(Instant::now()),
            // The other errors are the record's own.
            Err(PublishError::Unconfirmed(_)) => self.acks().failed(place.group, Instant::now()),
            Err(_) => {}
        }
        drop(place);
        // A caller that no longer waits needs no report.
        let _ = report.send(delivered);
    }
}
