//! Whether readings are being stored: what the health endpoint answers and the probes ask.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::control::Gate;

/// Window of the error rate.
const ERROR_WINDOW: Duration = Duration::from_secs(600);

/// Window of the throughput, and how long storing may pause before the service is unhealthy.
const STORE_WINDOW: Duration = Duration::from_secs(60);

/// Error rate above which the service is degraded.
const ERROR_RATE_MAX: f64 = 0.01;

/// Age of the oldest unprocessed reading above which the service is degraded.
const UNPROCESSED_AGE_MAX: Duration = Duration::from_secs(60);

/// How long the loop may be silent before the process counts as stuck.
const LOOP_SILENCE_MAX: Duration = Duration::from_secs(30);

/// Shared by the pipeline, which reports, and the operators' port, which asks.
#[derive(Clone)]
pub struct Health(Arc<Mutex<State>>);

struct State {
    started: Instant,
    /// Per second: records and dead letters.
    seconds: VecDeque<(Instant, i64, i64)>,
    processed_total: i64,
    batches_total: i64,
    last_stored: Instant,
    last_turn: Instant,
    mysql_ok: bool,
    redis_ok: bool,
    kafka_ok: bool,
    breaker_open: bool,
    held: Option<String>,
    paused: Option<String>,
    draining: bool,
    partitions: usize,
    oldest_ms: Option<i64>,
    queue_size: i64,
    group: GroupTotals,
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
    /// Age of the oldest reading in this replica's memory.
    pub oldest_unprocessed_seconds: f64,
    /// Partitions of this replica.
    pub partitions: usize,
    /// All replicas together.
    pub group: GroupTotals,
}

impl Health {
    /// Health of a process that starts now.
    pub fn new() -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(State {
            started: now,
            seconds: VecDeque::new(),
            processed_total: 0,
            batches_total: 0,
            last_stored: now,
            last_turn: now,
            mysql_ok: false,
            redis_ok: false,
            kafka_ok: false,
            breaker_open: false,
            held: None,
            paused: None,
            draining: false,
            partitions: 0,
            oldest_ms: None,
            queue_size: 0,
            group: GroupTotals::default(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Why the database does not take a batch, or that it does.
    pub fn held(&self, why: Option<String>) {
        self.state().held = why;
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

    /// The loop turned: what it holds.
    pub fn turned(&self, partitions: usize, oldest_ms: Option<i64>) {
        let mut state = self.state();
        state.last_turn = Instant::now();
        state.partitions = partitions;
        state.oldest_ms = oldest_ms;
    }

    /// The process is stopping.
    pub fn draining(&self) {
        self.state().draining = true;
    }

    /// What the last look at the servers found; `None` where a server did not answer.
    pub fn observed(&self, group: Option<GroupTotals>, queue_size: Option<i64>, redis_ok: bool) {
        let mut state = self.state();
        state.mysql_ok = group.is_some();
        state.kafka_ok = queue_size.is_some();
        state.redis_ok = redis_ok;
        if let Some(group) = group {
            state.group = group;
        }
        if let Some(queue_size) = queue_size {
            state.queue_size = queue_size;
        }
    }

    /// Whether the loop turns; no other server's fault fails this.
    pub fn live(&self) -> Result<(), String> {
        let silent = self.state().last_turn.elapsed();
        if silent > LOOP_SILENCE_MAX {
            return Err(format!("the loop has not turned for {} s", silent.as_secs()));
        }
        Ok(())
    }

    /// Whether this replica takes part.
    pub fn ready(&self) -> Result<(), String> {
        let state = self.state();
        if state.draining {
            return Err("draining".into());
        }
        if state.partitions == 0 {
            return Err("no partition assigned".into());
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
        let mut reasons = Vec::new();
        for (wrong, reason) in [
            (!state.mysql_ok, "mysql is not reachable"),
            (!state.redis_ok, "redis is not reachable"),
            (!state.kafka_ok, "kafka is not reachable"),
            (error_rate > ERROR_RATE_MAX, "error rate above 1 %"),
            (
                age_ms as u128 > UNPROCESSED_AGE_MAX.as_millis(),
                "oldest unprocessed reading older than 60 s",
            ),
        ] {
            if wrong {
                reasons.push(reason.to_owned());
            }
        }
        reasons.extend(state.held.iter().map(|why| format!("held: {why}")));
        reasons.extend(state.paused.iter().map(|reason| format!("paused by command: {reason}")));
        let waiting = state.queue_size > 0 && state.paused.is_none();
        let stalled = waiting && state.last_stored.elapsed() > STORE_WINDOW;
        let stuck = state.last_turn.elapsed() > LOOP_SILENCE_MAX;
        if stalled {
            reasons.push("nothing stored for 60 s although readings wait".into());
        }
        if stuck {
            reasons.push("the loop has stopped".into());
        }
        if state.breaker_open {
            reasons.push("the dead-letter breaker is open".into());
        }
        let status = match (stalled || stuck || state.breaker_open, reasons.is_empty()) {
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
            oldest_unprocessed_seconds: age_ms as f64 / 1000.0,
            partitions: state.partitions,
            group: state.group,
        }
    }
}
