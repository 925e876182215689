//! Whether readings are being stored. The pipeline and the monitor report what happened; `status` says
//! what it means, `endpoint` and the probes answer with it.

pub mod endpoint;
pub mod monitor;
pub mod redis_writes;
mod status;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ljwx_ledger::group::consumer::GroupProtocol;
use ljwx_ledger::group::monitor::Look;
use ljwx_service::heartbeat::Pulse;
use ljwx_service::metrics::{BATCH_HELD, flag};
use metrics::gauge;

use self::redis_writes::Writes;
use self::status::{GroupTotals, Report, State};
use crate::metrics::HEALTH;
use crate::mysql::group_control::Gate;

/// What the status can be.
const STATUSES: [&str; 3] = ["healthy", "degraded", "unhealthy"];

/// Shared by the pipeline, which reports, and the operators' port, which asks.
#[derive(Clone)]
pub struct Health {
    state: Arc<Mutex<State>>,
    pulse: Pulse,
    redis_writes: Writes,
}

impl Health {
    /// Health of a process that starts now, and joins its group by this protocol.
    pub fn new(protocol: GroupProtocol) -> Self {
        gauge!(BATCH_HELD).set(0.0);
        let state = Arc::new(Mutex::new(State::new(protocol, Instant::now())));
        Self { state, pulse: Pulse::new(), redis_writes: Writes::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch was stored.
    pub fn stored(&self, records: i64, dead_letters: i64) {
        self.state().stored(records, dead_letters, Instant::now());
    }

    /// An attempt to write failed.
    pub fn write_failed(&self) {
        self.state().mysql_ok = false;
    }

    /// To be told whether Redis takes what is written to it.
    pub fn redis_writes(&self) -> Writes {
        self.redis_writes.clone()
    }

    /// Why the database does not take a batch, or that it does.
    pub fn held(&self, why: Option<String>) {
        let mut state = self.state();
        state.held = why;
        state.show_held();
    }

    /// Why Kafka does not take a partition's dead letter, or that it did; batches beside it go on.
    pub fn letter_held(&self, partition: i32, why: Option<String>) {
        let mut state = self.state();
        match why {
            Some(why) => state.letters_held.insert(partition, why),
            None => state.letters_held.remove(&partition),
        };
        state.show_held();
    }

    /// What is wrong with the topic of the dead letters, or that nothing is.
    pub fn letters_topic(&self, problem: Option<String>) {
        self.state().letters_topic = problem;
    }

    /// Whether an operator has paused the group.
    pub fn gate(&self, gate: &Gate) {
        self.state().paused = match gate {
            Gate::Paused(reason) => Some(reason.clone()),
            _ => None,
        };
    }

    /// The dead-letter breaker opened or closed; `true` where that is news.
    pub fn breaker(&self, open: bool) -> bool {
        std::mem::replace(&mut self.state().breaker_open, open) != open
    }

    /// The group has answered.
    pub fn joined(&self) {
        self.state().joined = true;
    }

    /// The loop turned: what it holds.
    pub fn turned(&self, partitions: Vec<i32>, oldest_ms: Option<i64>) {
        self.pulse.turn();
        let mut state = self.state();
        state.partitions = partitions;
        state.oldest_ms = oldest_ms;
    }

    /// The process is stopping.
    pub fn draining(&self) {
        self.state().draining = true;
    }

    /// What the last look at the servers found. Where one of them did not answer, what was seen last
    /// still stands.
    pub fn observed(&self, look: &Look<'_>) {
        let mut state = self.state();
        state.mysql_ok = look.database;
        state.kafka_ok = look.kafka;
        state.redis_ok = look.redis;
        if !look.redis {
            self.redis_writes.unknown();
        }
        // Where the broker assigns, it has no word for a member without partitions.
        state.joined |= look.kafka && state.protocol == GroupProtocol::Consumer;
        if look.database {
            state.group = GroupTotals::of(look);
        }
        if !look.seen.ends.is_empty() {
            state.queue_size = look.lags.iter().map(|lag| lag.records).sum();
            state.stalled_seconds =
                look.lags.iter().map(|lag| (lag.partition, lag.stalled_seconds)).collect();
            state.group_oldest_seconds =
                look.lags.iter().map(|lag| lag.seconds).fold(0.0, f64::max);
        }
    }

    /// Whether nothing but work holds this replica up.
    pub fn is_free(&self) -> bool {
        let state = self.state();
        let held = state.held.is_some() || !state.letters_held.is_empty();
        !held && state.paused.is_none() && !state.breaker_open && state.mysql_ok
    }

    /// Shows the present status as a metric.
    pub fn show(&self, now_ms: i64) {
        let now = self.report(now_ms).status;
        for status in STATUSES {
            gauge!(HEALTH, "status" => status).set(flag(status == now));
        }
    }

    /// Whether the loop turns; no other server's fault fails this.
    pub fn live(&self) -> Result<(), String> {
        self.pulse.check()
    }

    /// Whether this replica takes part.
    pub fn ready(&self) -> Result<(), String> {
        let state = self.state();
        if state.draining {
            return Err("draining".into());
        }
        if !state.joined {
            return Err("the group has not answered yet".into());
        }
        if !state.mysql_ok {
            return Err("MySQL is not reachable".into());
        }
        Ok(())
    }

    /// The whole picture, at `now_ms`.
    pub fn report(&self, now_ms: i64) -> Report {
        let now = Instant::now();
        let loop_stopped = self.pulse.check().is_err();
        let redis_refused = self.redis_writes.refused(now);
        Report::of(&self.state(), loop_stopped, redis_refused, now, now_ms)
    }
}

#[cfg(test)]
mod tests;
