//! Tracks whether the worker stores readings. The pipeline and the monitor report events, and
//! `status` derives the status. `endpoint` and the probes answer with the result.

pub mod endpoint;
pub mod monitor;
pub mod redis_outcomes;
mod status;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ljwx_ledger::group::monitor::Observation;
use ljwx_ledger::group::settings::GroupProtocol;
use ljwx_ledger::metrics::BATCH_HELD;
use ljwx_service::heartbeat::Heartbeat;
use ljwx_service::kafka::topic_safety::watch::TopicSafety;
use ljwx_service::metrics::flag;
use metrics::gauge;

use self::redis_outcomes::RedisOutcomes;
use self::status::{GroupTotals, HealthState, HealthStatus, HeldReason};
use crate::metrics::HEALTH;
use crate::mysql::group_control::ConsumptionState;

/// All values of the status.
const STATUSES: [&str; 3] = ["healthy", "degraded", "unhealthy"];

/// The health of the worker, shared by the pipeline, which reports, and the admin port, which
/// reads.
#[derive(Clone)]
pub struct Health {
    state: Arc<Mutex<HealthState>>,
    heartbeat: Heartbeat,
    redis: RedisOutcomes,
}

impl Health {
    /// Creates the health of a process that starts now and joins its group by `protocol`.
    pub fn new(protocol: GroupProtocol) -> Self {
        gauge!(BATCH_HELD).set(0.0);
        let state = Arc::new(Mutex::new(HealthState::new(protocol, Instant::now())));
        Self { state, heartbeat: Heartbeat::new(), redis: RedisOutcomes::default() }
    }

    fn state(&self) -> MutexGuard<'_, HealthState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports a stored batch.
    pub fn stored(&self, records: i64, dead_letters: i64) {
        self.state().stored(records, dead_letters, Instant::now());
    }

    /// Returns the state to which writers of Redis report their results.
    pub fn redis(&self) -> &RedisOutcomes {
        &self.redis
    }

    /// Reports that a batch is held, with its partitions and the reason. Other batches continue.
    pub fn held(&self, batch_id: &str, partitions: Vec<i32>, why: &str) {
        let mut state = self.state();
        state.held.insert(batch_id.to_owned(), HeldReason { partitions, why: why.to_owned() });
        state.export_held();
    }

    /// Reports that a batch is no longer held.
    pub fn released(&self, batch_id: &str) {
        let mut state = self.state();
        state.held.remove(batch_id);
        state.export_held();
    }

    /// Returns the number of held batches.
    pub fn held_batches(&self) -> usize {
        self.state().held.len()
    }

    /// Takes the refused settings of these topics into the reasons from now on.
    pub fn watch_topics(&self, topics: TopicSafety) {
        self.state().topics = Some(topics);
    }

    /// Reports whether an operator has paused the group.
    pub fn consumption_state(&self, consumption_state: &ConsumptionState) {
        self.state().paused = match consumption_state {
            ConsumptionState::Paused(reason) => Some(reason.clone()),
            _ => None,
        };
    }

    /// Reports why the consumption state cannot be read, or with `None` that it was read. Returns
    /// `true` if an outage starts or ends with this.
    pub fn consumption_unreadable(&self, why: Option<String>) -> bool {
        let is_unreadable = why.is_some();
        let before = std::mem::replace(&mut self.state().consumption_unreadable, why);
        before.is_some() != is_unreadable
    }

    /// Reports whether the dead-letter breaker is open. Returns `true` if this is a change.
    pub fn breaker(&self, open: bool) -> bool {
        std::mem::replace(&mut self.state().breaker_open, open) != open
    }

    /// Reports that the group has answered.
    pub fn joined(&self) {
        self.state().joined = true;
    }

    /// Reports a turn of the main loop, with its partitions and its oldest waiting delivery.
    pub fn turned(&self, partitions: Vec<i32>, oldest_ms: Option<i64>) {
        self.heartbeat.turn();
        let mut state = self.state();
        state.partitions = partitions;
        state.oldest_ms = oldest_ms;
    }

    /// Returns whether this replica owns a partition, as of the last turn of the main loop.
    pub fn owns(&self, partition: i32) -> bool {
        self.state().partitions.contains(&partition)
    }

    /// Reports why assigned partitions cannot be claimed.
    pub fn unclaimed(&self, reasons: Vec<String>) {
        self.state().unclaimed = reasons;
    }

    /// Reports that the process is stopping.
    pub fn draining(&self) {
        self.state().draining = true;
    }

    /// Reports the last observation of the servers. If a server did not answer, its former values
    /// stay.
    pub fn observed(&self, observation: &Observation<'_>) {
        let mut state = self.state();
        state.mysql_ok = observation.database;
        state.kafka_ok = observation.kafka;
        state.redis_ok = observation.redis;
        if !observation.redis {
            self.redis.unknown();
        }
        // A broker that assigns partitions sends no answer to a member without partitions.
        state.joined |= observation.kafka && state.protocol == GroupProtocol::Consumer;
        if observation.database {
            state.group = GroupTotals::of(observation);
        }
        if !observation.seen.ends.is_empty() {
            state.queue_size = observation.lags.iter().map(|lag| lag.records).sum();
            state.stalled_seconds =
                observation.lags.iter().map(|lag| (lag.partition, lag.stalled_seconds)).collect();
            state.group_oldest_seconds =
                observation.lags.iter().map(|lag| lag.seconds).fold(0.0, f64::max);
        }
    }

    /// Returns whether only the amount of work limits this replica.
    pub fn is_free(&self) -> bool {
        let state = self.state();
        let is_stopped = state.paused.is_some() || state.consumption_unreadable.is_some();
        state.held.is_empty() && !is_stopped && !state.breaker_open && state.mysql_ok
    }

    /// Exports the present status as a metric.
    pub fn export(&self, now_ms: i64) {
        let now = self.report(now_ms).status;
        for status in STATUSES {
            gauge!(HEALTH, "status" => status).set(flag(status == now));
        }
    }

    /// Checks that the main loop turns. A failure of another server does not fail the check.
    pub fn live(&self) -> Result<(), String> {
        self.heartbeat.check()
    }

    /// Checks that the replica takes part: it has joined its group, MySQL is reachable, and it does
    /// not drain.
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

    /// Returns the complete status at `now_ms`.
    pub fn report(&self, now_ms: i64) -> HealthStatus {
        let now = Instant::now();
        let loop_stopped = self.heartbeat.check().is_err();
        HealthStatus::of(&self.state(), loop_stopped, &self.redis, now, now_ms)
    }
}

#[cfg(test)]
mod tests;
