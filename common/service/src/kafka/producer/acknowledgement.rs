//! Judges Kafka by the delivery reports of a producer, and counts the places of its queue.
//!
//! Broker sockets and sent records would not do: if too few replicas are in sync, both look healthy
//! while the same batches are sent again and again.
//!
//! Pure. Leaves callbacks, logs and metrics to `health`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::recent_sum::{RecentSum, WINDOW_SECONDS};
use crate::backoff;

/// Shortest wait that is asked for while Kafka acknowledges nothing.
const RETRY_AFTER_STALLED_MIN: Duration = Duration::from_secs(5);

/// Whether Kafka acknowledges records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KafkaState {
    /// None of the others.
    Flowing,
    /// A record has waited too long or failed, and none enqueued with it or later has been
    /// acknowledged; or no broker is reachable.
    Stalled {
        /// The moment from which this holds.
        since: Instant,
    },
    /// The producer has failed for good and has no successor yet.
    Fatal {
        /// The reason, as librdkafka words it.
        reason: String,
    },
}

/// Limits of [`Acknowledgements`].
#[derive(Debug, Clone, Copy)]
pub(super) struct AckLimits {
    /// Longest wait for an acknowledgement, or for a reachable broker, before Kafka is stalled.
    pub(super) stall: Duration,
    /// Places for records.
    pub(super) records: usize,
    /// Places for bytes, as accounted.
    pub(super) bytes: usize,
}

/// Records that were enqueued together and are not all acknowledged.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    records: usize,
}

/// The state of Kafka by the delivery reports of a process.
#[derive(Debug)]
pub(super) struct Acknowledgements {
    start: Instant,
    limits: AckLimits,
    /// Unacknowledged records by the number of their group. Groups are numbered as enqueued.
    waiting: BTreeMap<u64, Waiting>,
    records: usize,
    bytes: usize,
    /// Number of the next group.
    next: u64,
    /// The groups before this number were enqueued before the last success.
    before_success: u64,
    /// When the first failed record since the last success counted as stalled.
    failed: Option<Instant>,
    broker_up: Instant,
    fatal: Option<String>,
    successes: u64,
    acknowledged: RecentSum,
    refused: RecentSum,
}

impl Acknowledgements {
    pub(super) fn new(limits: AckLimits, now: Instant) -> Self {
        Self {
            start: now,
            limits,
            waiting: BTreeMap::new(),
            records: 0,
            bytes: 0,
            next: 0,
            before_success: 0,
            failed: None,
            broker_up: now,
            fatal: None,
            successes: 0,
            acknowledged: RecentSum::default(),
            refused: RecentSum::default(),
        }
    }

    /// Takes the places of a group of records and returns its number. Without room for all, takes
    /// none and counts the records as refused.
    pub(super) fn take(&mut self, records: usize, bytes: usize, now: Instant) -> Option<u64> {
        let fits = self.records + records <= self.limits.records
            && self.bytes.saturating_add(bytes) <= self.limits.bytes;
        if !fits {
            self.refuse(records as u64, now);
            return None;
        }
        let number = self.next;
        self.next += 1;
        self.records += records;
        self.bytes += bytes;
        if records > 0 {
            self.waiting.insert(number, Waiting { since: now, records });
        }
        Some(number)
    }

    /// Gives back the place of one record of a group, unless a new producer has freed it.
    pub(super) fn give_back(&mut self, number: u64, bytes: usize) {
        let Some(group) = self.waiting.get_mut(&number) else { return };
        self.records -= 1;
        self.bytes -= bytes;
        group.records -= 1;
        if group.records == 0 {
            self.waiting.remove(&number);
        }
    }

    /// Notes that a record was acknowledged.
    pub(super) fn succeeded(&mut self, now: Instant) {
        self.before_success = self.next;
        self.failed = None;
        self.broker_up = now;
        self.successes += 1;
        let second = self.second(now);
        self.acknowledged.add(second, 1);
    }

    /// Notes that a record of a group failed for want of Kafka.
    pub(super) fn failed(&mut self, number: u64, now: Instant) {
        if number < self.before_success || self.failed.is_some() {
            return;
        }
        let waited = self.waiting.get(&number).map(|group| group.since + self.limits.stall);
        self.failed = Some(waited.map_or(now, |waited| waited.min(now)));
    }

    /// Notes that records were refused. Their senders come back.
    pub(super) fn refuse(&mut self, records: u64, now: Instant) {
        let second = self.second(now);
        self.refused.add(second, records);
    }

    /// Notes that a broker is reachable.
    pub(super) fn broker_up(&mut self, now: Instant) {
        self.broker_up = now;
    }

    /// Notes that the producer has failed for good.
    pub(super) fn broken(&mut self, reason: String) {
        self.fatal = Some(reason);
    }

    /// Notes that there is a new producer. Failures of its predecessor prove nothing about it.
    /// Records without a report of the predecessor never get one: their places are free.
    pub(super) fn renewed(&mut self, now: Instant) {
        (self.fatal, self.failed, self.broker_up) = (None, None, now);
        self.waiting.clear();
        (self.records, self.bytes) = (0, 0);
    }

    /// Returns the number of acknowledged records.
    pub(super) const fn successes(&self) -> u64 {
        self.successes
    }

    /// Returns the age of the oldest unacknowledged record. Zero if there is none.
    pub(super) fn oldest(&self, now: Instant) -> Duration {
        let oldest = self.waiting.first_key_value();
        oldest.map_or(Duration::ZERO, |(_, group)| now.saturating_duration_since(group.since))
    }

    /// Returns whether Kafka acknowledges records.
    pub(super) fn state(&self, now: Instant) -> KafkaState {
        if let Some(reason) = &self.fatal {
            return KafkaState::Fatal { reason: reason.clone() };
        }
        let unanswered = self.waiting.range(self.before_success..).next();
        let unanswered = unanswered.map(|(_, group)| group.since + self.limits.stall);
        let unreachable = Some(self.broker_up + self.limits.stall);
        let since = [self.failed, unanswered, unreachable].into_iter().flatten().min();
        match since.filter(|since| *since <= now) {
            Some(since) => KafkaState::Stalled { since },
            None => KafkaState::Flowing,
        }
    }

    /// Returns the whole seconds after which a refused sender should come back. `random` in 0..1
    /// spreads the senders.
    pub(super) fn retry_after(&mut self, now: Instant, random: f64) -> u64 {
        let second = self.second(now);
        let load = Load {
            waiting: self.records as u64,
            refused: self.refused.sum(second),
            per_second: self.acknowledged.sum(second) as f64 / WINDOW_SECONDS as f64,
            stalled: match self.state(now) {
                KafkaState::Flowing => None,
                KafkaState::Stalled { since } => Some(now.saturating_duration_since(since)),
                KafkaState::Fatal { .. } => Some(Duration::ZERO),
            },
        };
        load.retry_after(random)
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs()
    }
}

/// The load from which a refused sender's wait follows.
#[derive(Debug)]
pub(super) struct Load {
    /// Unacknowledged records.
    pub(super) waiting: u64,
    /// Records refused recently.
    pub(super) refused: u64,
    /// Records acknowledged a second.
    pub(super) per_second: f64,
    /// Time without acknowledgement, if Kafka is stalled.
    pub(super) stalled: Option<Duration>,
}

impl Load {
    pub(super) fn retry_after(&self, random: f64) -> u64 {
        let seconds = match self.stalled {
            Some(stalled) => (stalled / 2).max(RETRY_AFTER_STALLED_MIN).as_secs_f64(),
            None => (self.waiting + self.refused) as f64 / self.per_second.max(1.0),
        };
        backoff::retry_after(seconds, random)
    }
}
