//! Whether readings are being stored: what the health endpoint answers and the probes ask.

pub mod monitor;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ljwx_ledger::group::consumer::GroupProtocol;
use ljwx_ledger::group::monitor::Look;
use ljwx_service::heartbeat::Pulse;
use ljwx_service::metrics::{BATCH_HELD, flag};
use metrics::gauge;
use serde::Serialize;

use crate::metrics::HEALTH;
use crate::mysql::group_control::Gate;
use crate::redis::Writes;

/// Window of the error rate.
const ERROR_WINDOW: Duration = Duration::from_secs(600);

/// Window of the throughput, and how long storing may pause before the service is unhealthy.
const STORE_WINDOW: Duration = Duration::from_secs(60);

/// How long Redis may refuse what is written to it before the service is unhealthy.
const REDIS_REFUSES_MAX: Duration = Duration::from_secs(60);

/// Error rate above which the service is degraded.
const ERROR_RATE_MAX: f64 = 0.01;

/// Age of the oldest unprocessed reading above which it is degraded.
const UNPROCESSED_AGE_MAX: Duration = Duration::from_secs(60);

/// What the status can be.
const STATUSES: [&str; 3] = ["healthy", "degraded", "unhealthy"];

/// Shared by the pipeline, which reports, and the operators' port, which asks.
#[derive(Clone)]
pub struct Health {
    state: Arc<Mutex<State>>,
    pulse: Pulse,
    redis_writes: Writes,
}

struct State {
    started: Instant,
    /// Per second: records and dead letters.
    seconds: VecDeque<(Instant, i64, i64)>,
    processed_total: i64,
    batches_total: i64,
    last_stored: Instant,
    mysql_ok: bool,
    redis_ok: bool,
    kafka_ok: bool,
    breaker_open: bool,
    held: Option<String>,
    letters_held: BTreeMap<i32, String>,
    letters_topic: Option<String>,
    paused: Option<String>,
    draining: bool,
    protocol: GroupProtocol,
    /// Whether the group has answered: with partitions, or that there is none to have.
    joined: bool,
    partitions: Vec<i32>,
    oldest_ms: Option<i64>,
    queue_size: i64,
    /// For how long each partition of the group has had lag and not moved.
    stalled_seconds: BTreeMap<i32, f64>,
    group_oldest_seconds: f64,
    group: GroupTotals,
}

impl State {
    fn show_held(&self) {
        gauge!(BATCH_HELD).set(flag(self.held.is_some() || !self.letters_held.is_empty()));
    }

    /// Whether nothing was stored although readings wait in partitions of this replica: what waits in
    /// others' is not its to store, and a reading that has just come waits for nobody.
    fn is_stalled(&self) -> bool {
        let long = Some(STORE_WINDOW.as_secs_f64());
        let stalled = |partition| self.stalled_seconds.get(partition).copied() > long;
        let silent = self.last_stored.elapsed() > STORE_WINDOW;
        silent && self.paused.is_none() && self.partitions.iter().any(stalled)
    }
}

/// Totals of all partitions of the group, from the ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct GroupTotals {
    /// New rows.
    pub stored: i64,
    /// Deliveries whose identity existed.
    pub merged: i64,
    /// Dead letters.
    pub dead_lettered: i64,
    /// Offsets without a record.
    pub skipped_gap: i64,
    /// Offsets gone through twice by an operator's command.
    pub rewound: i64,
    /// Partitions with a row.
    pub partitions: i64,
}

impl GroupTotals {
    fn of(look: &Look<'_>) -> Self {
        let mut totals = Self::default();
        for (entry, _) in look.seen.ledger.values() {
            totals.stored += entry.stored;
            totals.merged += entry.merged;
            totals.dead_lettered += entry.dead_lettered;
            totals.skipped_gap += entry.skipped_gap;
            totals.rewound += entry.rewound;
            totals.partitions += 1;
        }
        totals
    }
}

/// What `GET /api/batch_processor/health` answers.
#[derive(Debug, Serialize)]
pub struct Report {
    /// healthy, degraded or unhealthy.
    pub status: &'static str,
    /// What speaks against healthy.
    pub reasons: Vec<String>,
    /// Records of the group that wait, over all its partitions.
    pub queue_size: i64,
    /// Records this replica processed since it started.
    pub processed_total: i64,
    /// Dead letters of all processed in the last 10 minutes, of this replica.
    pub error_rate: f64,
    /// Records a batch, since start.
    pub avg_batch_size: f64,
    /// Records a second in the last minute, of this replica.
    pub throughput_per_second: f64,
    /// Age of the oldest reading that is not processed, in this replica's memory or in Kafka.
    pub oldest_unprocessed_seconds: f64,
    /// Partitions of this replica.
    pub partitions: usize,
    /// All replicas together.
    pub group: GroupTotals,
}

impl Health {
    /// Health of a process that starts now, and joins its group by this protocol.
    pub fn new(protocol: GroupProtocol) -> Self {
        gauge!(BATCH_HELD).set(0.0);
        let now = Instant::now();
        let state = Arc::new(Mutex::new(State {
            started: now,
            seconds: VecDeque::new(),
            processed_total: 0,
            batches_total: 0,
            last_stored: now,
            mysql_ok: false,
            redis_ok: false,
            kafka_ok: false,
            breaker_open: false,
            held: None,
            letters_held: BTreeMap::new(),
            letters_topic: None,
            paused: None,
            draining: false,
            protocol,
            joined: false,
            partitions: Vec::new(),
            oldest_ms: None,
            queue_size: 0,
            stalled_seconds: BTreeMap::new(),
            group_oldest_seconds: 0.0,
            group: GroupTotals::default(),
        }));
        Self { state, pulse: Pulse::new(), redis_writes: Writes::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch was stored.
    pub fn stored(&self, records: i64, dead_letters: i64) {
        let now = Instant::now();
        let mut state = self.state();
        state.processed_total += records;
        state.batches_total += 1;
        state.last_stored = now;
        state.mysql_ok = true;
        match state.seconds.back_mut() {
            Some((second, all, dead)) if now - *second < Duration::from_secs(1) => {
                *all += records;
                *dead += dead_letters;
            }
            _ => state.seconds.push_back((now, records, dead_letters)),
        }
        while state.seconds.front().is_some_and(|(second, ..)| now - *second > ERROR_WINDOW) {
            state.seconds.pop_front();
        }
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
        let state = self.state();
        let now = Instant::now();
        let within = |window: Duration| {
            state
                .seconds
                .iter()
                .filter(move |(second, ..)| now - *second <= window)
                .fold((0, 0), |(all, dead), (_, records, letters)| (all + records, dead + letters))
        };
        let (recent, recent_dead) = within(ERROR_WINDOW);
        let error_rate = if recent > 0 { recent_dead as f64 / recent as f64 } else { 0.0 };
        let uptime = (now - state.started).min(STORE_WINDOW).as_secs_f64().max(1.0);
        let age_ms = state.oldest_ms.map_or(0, |oldest| (now_ms - oldest).max(0));
        let age_seconds = (age_ms as f64 / 1000.0).max(state.group_oldest_seconds);
        let mut reasons = Vec::new();
        for (wrong, reason) in [
            (!state.mysql_ok, "mysql is not reachable"),
            (!state.redis_ok, "redis is not reachable"),
            (!state.kafka_ok, "kafka is not reachable"),
            (error_rate > ERROR_RATE_MAX, "error rate above 1 %"),
            (
                age_seconds > UNPROCESSED_AGE_MAX.as_secs_f64(),
                "oldest unprocessed reading older than 60 s",
            ),
        ] {
            if wrong {
                reasons.push(reason.to_owned());
            }
        }
        reasons.extend(state.held.iter().map(|why| format!("held: {why}")));
        reasons.extend(state.letters_held.values().map(|why| format!("held: {why}")));
        reasons.extend(state.letters_topic.iter().map(|why| format!("dead letters: {why}")));
        reasons.extend(state.paused.iter().map(|reason| format!("paused by command: {reason}")));
        let refused = self.redis_writes.refused(now);
        let refuses = refused.as_ref().is_some_and(|(since, _)| *since >= REDIS_REFUSES_MAX);
        reasons.extend(refused.map(|(_, why)| format!("redis refuses writes: {why}")));
        let (stalled, stuck) = (state.is_stalled(), self.pulse.check().is_err());
        if stalled {
            reasons.push("nothing stored for 60 s although readings wait".into());
        }
        if stuck {
            reasons.push("the loop has stopped".into());
        }
        if state.breaker_open {
            reasons.push("the dead-letter breaker is open".into());
        }
        let unhealthy = stalled || stuck || refuses || state.breaker_open;
        let status = match (unhealthy, reasons.is_empty()) {
            (true, _) => "unhealthy",
            (false, true) => "healthy",
            (false, false) => "degraded",
        };
        Report {
            status,
            reasons,
            queue_size: state.queue_size,
            processed_total: state.processed_total,
            error_rate,
            avg_batch_size: state.processed_total as f64 / state.batches_total.max(1) as f64,
            throughput_per_second: within(STORE_WINDOW).0 as f64 / uptime,
            oldest_unprocessed_seconds: age_seconds,
            partitions: state.partitions.len(),
            group: state.group,
        }
    }
}

#[cfg(test)]
mod tests;
