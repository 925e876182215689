//! Refuses requests at once while Kafka acknowledges nothing.
//!
//! Leaves the judgement of Kafka to the publisher, and which request may try it to `probing`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::{ArgAction, Args};
use ljwx_service::config::{Problems, duration, flag};
use ljwx_service::kafka::producer::publisher::{KafkaState, Publisher};

use super::probing::Probing;

/// Shortest stall that is noticed: the producer's statistics come once a second.
const ACK_STALL_MIN: Duration = Duration::from_secs(2);

/// Settings for the time in which Kafka acknowledges nothing.
#[derive(Debug, Clone, Args)]
pub struct StallArgs {
    /// Longest wait for an acknowledgement by Kafka, or for a reachable broker; then requests get
    /// 503 at once, and one every 2 s tries Kafka.
    #[arg(long, env = "ACK_STALL", default_value = "3s", value_parser = duration)]
    pub ack_stall: Duration,
    /// Time for which Kafka acknowledges nothing before /readyz fails.
    #[arg(long, env = "READY_GRACE", default_value = "5s", value_parser = duration)]
    pub ready_grace: Duration,
    /// Keep /readyz at 200 while Kafka acknowledges nothing, for load balancers that do not pass
    /// requests to unready gateways when all are unready.
    #[arg(long, env = "READY_WHILE_STALLED", action = ArgAction::SetTrue, value_parser = flag)]
    pub ready_while_stalled: bool,
}

impl StallArgs {
    /// Adds the problems of these settings.
    pub fn validate(&self, problems: &mut Problems) {
        problems.require(self.ack_stall >= ACK_STALL_MIN, || {
            format!("--ack-stall must be at least {} s", ACK_STALL_MIN.as_secs())
        });
    }
}

/// The gate before the requests. Clones share its state.
#[derive(Clone)]
pub struct KafkaGate {
    publisher: Publisher,
    settings: StallArgs,
    probing: Arc<Mutex<Probing>>,
}

/// A request that has passed the gate and has not ended.
pub struct Passage<'a>(&'a KafkaGate);

impl KafkaGate {
    /// Creates an open gate.
    pub fn new(publisher: Publisher, settings: StallArgs) -> Self {
        let probing = Arc::new(Mutex::new(Probing::new(Instant::now())));
        Self { publisher, settings, probing }
    }

    /// Lets a request pass. `None` refuses it.
    pub fn enter(&self) -> Option<Passage<'_>> {
        let since = match self.publisher.state() {
            KafkaState::Flowing => None,
            KafkaState::Stalled { since } => Some(since),
            KafkaState::Fatal { .. } => return None,
        };
        // A refused request has no passage: the end of a passage holds back the next probe.
        if self.probing().passes(Instant::now(), since) { Some(Passage(self)) } else { None }
    }

    /// Checks that the gateway may get requests. The error is the reason against them.
    pub fn ready(&self) -> Result<(), String> {
        let since = match self.publisher.state() {
            KafkaState::Flowing => return Ok(()),
            KafkaState::Stalled { since } => since,
            KafkaState::Fatal { reason } => {
                return Err(format!("the producer has failed and is being replaced: {reason}"));
            }
        };
        let now = Instant::now();
        let StallArgs { ready_grace, ready_while_stalled, .. } = self.settings;
        if ready_while_stalled || self.probing().is_ready(now, since, ready_grace) {
            return Ok(());
        }
        let seconds = now.saturating_duration_since(since).as_secs();
        Err(format!("Kafka has acknowledged nothing for {seconds} s"))
    }

    fn probing(&self) -> MutexGuard<'_, Probing> {
        self.probing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        if self.0.publisher.state() != KafkaState::Flowing {
            self.0.probing().ended_in_vain(Instant::now());
        }
    }
}
