//! Derives the health status of the worker from the reported state. Pure: time comes as an
//! argument.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use ljwx_ledger::group::monitor::Observation;
use ljwx_ledger::group::settings::GroupProtocol;
use ljwx_ledger::metrics::BATCH_HELD;
use ljwx_service::kafka::topic_safety::watch::TopicSafety;
use ljwx_service::metrics::flag;
use metrics::gauge;
use serde::Serialize;

use super::redis_outcomes::RedisOutcomes;

/// Window of the error rate.
const ERROR_WINDOW: Duration = Duration::from_secs(600);

/// Window of the throughput, and longest time without a stored batch while readings wait. After it
/// the service is unhealthy.
pub(super) const STORE_WINDOW: Duration = Duration::from_secs(60);

/// Longest time that Redis may reject writes before the service is unhealthy.
pub(super) const REDIS_REJECTS_MAX: Duration = Duration::from_secs(60);

/// Error rate above which the service is degraded.
const ERROR_RATE_MAX: f64 = 0.01;

/// Age of the oldest unprocessed reading above which the service is degraded.
const UNPROCESSED_AGE_MAX: Duration = Duration::from_secs(60);

/// The reason why a batch is held.
pub(super) struct HeldReason {
    /// The partitions of the batch.
    pub(super) partitions: Vec<i32>,
    pub(super) why: String,
}

/// The state that the pipeline and the monitor have reported.
pub(super) struct HealthState {
    pub(super) started: Instant,
    /// Records and dead letters, second by second.
    pub(super) seconds: VecDeque<(Instant, i64, i64)>,
    pub(super) processed_total: i64,
    pub(super) batches_total: i64,
    pub(super) last_stored: Instant,
    pub(super) mysql_ok: bool,
    pub(super) redis_ok: bool,
    pub(super) kafka_ok: bool,
    pub(super) breaker_open: bool,
    /// The held batches by id.
    pub(super) held: BTreeMap<String, HeldReason>,
    /// Why assigned partitions cannot be claimed.
    pub(super) unclaimed: Vec<String>,
    pub(super) topics: Option<TopicSafety>,
    pub(super) paused: Option<String>,
    /// The reason why it cannot be read whether the group is paused.
    pub(super) consumption_unreadable: Option<String>,
    pub(super) draining: bool,
    pub(super) protocol: GroupProtocol,
    /// Whether the group has answered, with partitions or with none.
    pub(super) joined: bool,
    pub(super) partitions: Vec<i32>,
    pub(super) oldest_ms: Option<i64>,
    pub(super) queue_size: i64,
    /// Time for which each partition of the group has been stalled.
    pub(super) stalled_seconds: BTreeMap<i32, f64>,
    pub(super) group_oldest_seconds: f64,
    pub(super) group: GroupTotals,
}

impl HealthState {
    pub(super) fn new(protocol: GroupProtocol, now: Instant) -> Self {
        Self {
            started: now,
            seconds: VecDeque::new(),
            processed_total: 0,
            batches_total: 0,
            last_stored: now,
            mysql_ok: false,
            redis_ok: false,
            kafka_ok: false,
            breaker_open: false,
            held: BTreeMap::new(),
            unclaimed: Vec::new(),
            topics: None,
            paused: None,
            consumption_unreadable: None,
            draining: false,
            protocol,
            joined: false,
            partitions: Vec::new(),
            oldest_ms: None,
            queue_size: 0,
            stalled_seconds: BTreeMap::new(),
            group_oldest_seconds: 0.0,
            group: GroupTotals::default(),
        }
    }

    pub(super) fn stored(&mut self, records: i64, dead_letters: i64, now: Instant) {
        self.processed_total += records;
        self.batches_total += 1;
        self.last_stored = now;
        self.mysql_ok = true;
        match self.seconds.back_mut() {
            Some((second, all, dead)) if now - *second < Duration::from_secs(1) => {
                *all += records;
                *dead += dead_letters;
            }
            _ => self.seconds.push_back((now, records, dead_letters)),
        }
        while self.seconds.front().is_some_and(|(second, ..)| now - *second > ERROR_WINDOW) {
            self.seconds.pop_front();
        }
    }

    /// Returns the records and dead letters stored within `window` before `now`.
    fn within(&self, window: Duration, now: Instant) -> (i64, i64) {
        self.seconds
            .iter()
            .filter(|(second, ..)| now - *second <= window)
            .fold((0, 0), |(all, dead), (_, records, letters)| (all + records, dead + letters))
    }

    fn error_rate(&self, now: Instant) -> f64 {
        let (recent, dead) = self.within(ERROR_WINDOW, now);
        if recent > 0 { dead as f64 / recent as f64 } else { 0.0 }
    }

    fn age_seconds(&self, now_ms: i64) -> f64 {
        let age_ms = self.oldest_ms.map_or(0, |oldest| (now_ms - oldest).max(0));
        (age_ms as f64 / 1000.0).max(self.group_oldest_seconds)
    }

    /// Returns the reasons against `healthy` in the reported state.
    fn reasons(&self, now: Instant, now_ms: i64) -> Vec<String> {
        let old = self.age_seconds(now_ms) > UNPROCESSED_AGE_MAX.as_secs_f64();
        let checks = [
            (!self.mysql_ok, "mysql is not reachable"),
            (!self.redis_ok, "redis is not reachable"),
            (!self.kafka_ok, "kafka is not reachable"),
            (self.error_rate(now) > ERROR_RATE_MAX, "error rate above 1 %"),
            (old, "oldest unprocessed reading older than 60 s"),
        ];
        let wrong = checks.into_iter().filter(|(wrong, _)| *wrong);
        let mut reasons: Vec<String> = wrong.map(|(_, reason)| reason.to_owned()).collect();
        reasons.extend(self.held_reasons());
        reasons.extend(self.unclaimed.iter().cloned());
        reasons.extend(self.topics.iter().filter_map(TopicSafety::refused));
        reasons.extend(self.paused.iter().map(|reason| format!("paused by command: {reason}")));
        reasons.extend(self.consumption_unreadable.clone());
        reasons
    }

    /// Returns each reason of held batches once, with all partitions that wait for it.
    fn held_reasons(&self) -> Vec<String> {
        let mut partitions: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
        for held in self.held.values() {
            partitions.entry(&held.why).or_default().extend(&held.partitions);
        }
        let reason = |(why, partitions): (&str, BTreeSet<i32>)| {
            let partitions: Vec<String> = partitions.iter().map(i32::to_string).collect();
            format!("held: {why} (partitions {})", partitions.join(", "))
        };
        partitions.into_iter().map(reason).collect()
    }

    pub(super) fn export_held(&self) {
        gauge!(BATCH_HELD).set(flag(!self.held.is_empty()));
    }

    /// Returns whether nothing was stored although readings wait in partitions of this replica.
    /// Other replicas' partitions and readings that have just arrived do not count.
    fn is_stalled(&self, now: Instant) -> bool {
        let long = Some(STORE_WINDOW.as_secs_f64());
        let stalled = |partition| self.stalled_seconds.get(partition).copied() > long;
        let silent = now - self.last_stored > STORE_WINDOW;
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
    /// Offsets gone back on an operator's order.
    pub rewound: i64,
    /// Partitions with a ledger row.
    pub partitions: i64,
}

impl GroupTotals {
    pub(super) fn of(observation: &Observation<'_>) -> Self {
        let mut totals = Self::default();
        for (entry, _) in observation.seen.ledger.values() {
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

/// The answer to `GET /api/batch_processor/health`.
#[derive(Debug, Serialize)]
pub struct HealthStatus {
    /// healthy, degraded or unhealthy.
    pub status: &'static str,
    /// The reasons against `healthy`.
    pub reasons: Vec<String>,
    /// Lag of the group in records, over all its partitions.
    pub queue_size: i64,
    /// Records that this replica has processed since its start.
    pub processed_total: i64,
    /// Share of dead letters among the records of this replica in the last 10 minutes.
    pub error_rate: f64,
    /// Mean number of records in a batch since the start.
    pub avg_batch_size: f64,
    /// Records per second of this replica in the last minute.
    pub throughput_per_second: f64,
    /// Age of the oldest unprocessed reading, in this replica's memory or in Kafka.
    pub oldest_unprocessed_seconds: f64,
    /// Partitions of this replica.
    pub partitions: usize,
    /// Totals of all replicas.
    pub group: GroupTotals,
}

impl HealthStatus {
    /// Derives the status from `state`, at `now`, which is `now_ms` since 1970.
    pub(super) fn of(
        state: &HealthState,
        loop_stopped: bool,
        redis: &RedisOutcomes,
        now: Instant,
        now_ms: i64,
    ) -> Self {
        let mut reasons = state.reasons(now, now_ms);
        let (writes, messages) = (redis.writes.failing_for(now), redis.messages.failing_for(now));
        let refuses = writes.as_ref().is_some_and(|(since, _)| *since >= REDIS_REJECTS_MAX);
        reasons.extend(writes.map(|(_, why)| format!("redis refuses writes: {why}")));
        reasons.extend(messages.map(|(_, why)| format!("redis refuses messages: {why}")));
        let stalled = state.is_stalled(now);
        for (wrong, reason) in [
            (stalled, "nothing stored for 60 s although readings wait"),
            (loop_stopped, "the loop has stopped"),
            (state.breaker_open, "the dead-letter breaker is open"),
        ] {
            if wrong {
                reasons.push(reason.to_owned());
            }
        }
        let unhealthy = stalled || loop_stopped || refuses || state.breaker_open;
        let status = match (unhealthy, reasons.is_empty()) {
            (true, _) => "unhealthy",
            (false, true) => "healthy",
            (false, false) => "degraded",
        };
        let uptime = (now - state.started).min(STORE_WINDOW).as_secs_f64().max(1.0);
        Self {
            status,
            reasons,
            queue_size: state.queue_size,
            processed_total: state.processed_total,
            error_rate: state.error_rate(now),
            avg_batch_size: state.processed_total as f64 / state.batches_total.max(1) as f64,
            throughput_per_second: state.within(STORE_WINDOW, now).0 as f64 / uptime,
            oldest_unprocessed_seconds: state.age_seconds(now_ms),
            partitions: state.partitions.len(),
            group: state.group,
        }
    }
}
