//! Holds the deliveries that are read and not yet written, by lane. Pure: time comes as an
//! argument.
//!
//! A lane is the queue of one partition. Its deliveries form segments, and at most one segment is
//! in flight. So the batches of one partition follow one another, and those of different partitions
//! run at the same time.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ljwx_ledger::group::delivery::Delivery;
use ljwx_ledger::ledger::Claim;
use opentelemetry::trace::SpanContext;

use crate::batch::redis_progress::{LaneProgress, RedisProgress, RedisWrite};
use crate::batch::{FlushReason, Segment};

/// The limits of the buffer.
#[derive(Debug, Clone)]
pub struct BufferLimits {
    /// Rows that make a batch due, and most rows of one segment.
    pub batch_rows: usize,
    /// Bytes that make a batch due, and most bytes of one segment.
    pub batch_bytes: usize,
    /// Age that makes a batch due.
    pub batch_age: Duration,
    /// Age that makes a batch due if `FAST_ROWS` rows wait.
    pub fast_age: Duration,
    /// Deliveries in memory from which on no more are taken in.
    pub deliveries_max: usize,
}

/// Rows that make a batch worth its statements.
pub const FAST_ROWS: usize = 50;

#[derive(Debug)]
struct Lane {
    epoch: i64,
    next: i64,
    in_flight: usize,
    waiting: VecDeque<(Instant, Segment)>,
    redis_progress: RedisProgress,
}

/// The lanes of all partitions that this process owns.
#[derive(Debug)]
pub struct Buffer {
    limits: BufferLimits,
    lanes: BTreeMap<i32, Lane>,
}

impl Buffer {
    /// Creates an empty buffer.
    pub fn new(limits: BufferLimits) -> Self {
        Self { limits, lanes: BTreeMap::new() }
    }

    /// Sets the rows and the ages that make a batch due.
    pub fn tune(&mut self, batch_rows: usize, batch_age: Duration, fast_age: Duration) {
        self.limits.batch_rows = batch_rows;
        self.limits.batch_age = batch_age;
        self.limits.fast_age = fast_age;
    }

    /// Opens a lane at the offset of its claim.
    pub fn open(&mut self, claim: Claim) {
        let lane = Lane {
            epoch: claim.epoch,
            next: claim.next_offset,
            in_flight: 0,
            waiting: VecDeque::new(),
            redis_progress: RedisProgress::new(claim.redis_offset, claim.next_offset),
        };
        self.lanes.insert(claim.partition, lane);
    }

    /// Drops lanes with all their deliveries.
    pub fn forget(&mut self, partitions: &[i32]) {
        self.lanes.retain(|partition, _| !partitions.contains(partition));
    }

    /// Drops the lane of one claim. The lane of a later claim of the partition stays.
    pub fn forget_claim(&mut self, partition: i32, epoch: i64) {
        self.lanes.retain(|lane, held| *lane != partition || held.epoch != epoch);
    }

    /// Takes a delivery in. Drops a delivery of a former claim, which the new owner reads, and an
    /// offset that the lane already has.
    pub fn insert(&mut self, delivery: Delivery, origin: Option<SpanContext>, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&delivery.partition) else { return };
        let expected = lane.waiting.back().map_or(lane.next, |(_, segment)| segment.to);
        if delivery.epoch != lane.epoch || delivery.offset < expected {
            return;
        }
        let full = lane.waiting.back().is_none_or(|(_, segment)| {
            segment.rows.len() >= self.limits.batch_rows || segment.bytes >= self.limits.batch_bytes
        });
        if full {
            let segment = Segment::new(delivery.partition, delivery.epoch, expected);
            lane.waiting.push_back((now, segment));
        }
        if let Some((_, segment)) = lane.waiting.back_mut() {
            segment.push(delivery, origin);
        }
    }

    /// Returns the number of deliveries in memory, waiting or in flight.
    pub fn deliveries(&self) -> usize {
        let waiting = |lane: &Lane| -> usize {
            lane.waiting.iter().map(|(_, segment)| segment.records()).sum()
        };
        self.lanes.values().map(|lane| lane.in_flight + waiting(lane)).sum()
    }

    /// Returns whether more deliveries may be taken in.
    pub fn has_room(&self) -> bool {
        self.deliveries() < self.limits.deliveries_max
    }

    /// Returns the reason to take a batch now, if there is one.
    pub fn due(&self, now: Instant) -> Option<FlushReason> {
        let (rows, bytes) = self.ready().fold((0, 0), |(rows, bytes), (_, segment)| {
            (rows + segment.rows.len(), bytes + segment.bytes)
        });
        if rows >= self.limits.batch_rows {
            Some(FlushReason::Rows)
        } else if bytes >= self.limits.batch_bytes {
            Some(FlushReason::Bytes)
        } else {
            self.due_at().filter(|due| now >= *due).map(|_| FlushReason::Age)
        }
    }

    /// Returns when the oldest delivery that could be written becomes due by age.
    pub fn due_at(&self) -> Option<Instant> {
        let since = self.ready().map(|(since, _)| *since).min()?;
        let rows: usize = self.ready().map(|(_, segment)| segment.rows.len()).sum();
        let age = match rows {
            FAST_ROWS.. => self.limits.fast_age,
            _ => self.limits.batch_age,
        };
        Some(since + age)
    }

    /// Returns the first segment of every lane that has nothing in flight.
    fn ready(&self) -> impl Iterator<Item = &(Instant, Segment)> {
        self.lanes
            .values()
            .filter(|lane| lane.in_flight == 0)
            .filter_map(|lane| lane.waiting.front())
    }

    /// Takes the segments of one batch, oldest lanes first, until the batch is full. It takes no
    /// further lanes, because every lane costs a statement of its own.
    pub fn take(&mut self) -> Vec<Segment> {
        self.take_of(|_| true)
    }

    /// Takes the first segments of the given partitions, due or not. Further calls take the later
    /// segments.
    pub fn take_partitions(&mut self, partitions: &[i32]) -> Vec<Segment> {
        self.take_of(|partition| partitions.contains(&partition))
    }

    fn take_of(&mut self, wanted: impl Fn(i32) -> bool) -> Vec<Segment> {
        let mut order: Vec<(Instant, i32)> = self
            .ready()
            .filter(|(_, segment)| wanted(segment.partition))
            .map(|(since, segment)| (*since, segment.partition))
            .collect();
        order.sort_unstable();
        let mut taken: Vec<Segment> = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        for (_, partition) in order {
            if rows >= self.limits.batch_rows || bytes >= self.limits.batch_bytes {
                break;
            }
            let Some(lane) = self.lanes.get_mut(&partition) else { continue };
            let Some((_, mut segment)) = lane.waiting.pop_front() else { continue };
            lane.in_flight = segment.records().max(1);
            lane.next = segment.to;
            segment.redis_offset = Some(lane.redis_progress.up_to());
            segment.has_successor = !lane.waiting.is_empty();
            rows += segment.rows.len();
            bytes += segment.bytes;
            taken.push(segment);
        }
        // Every writer locks rows of the ledger in this order.
        taken.sort_unstable_by_key(|segment| segment.partition);
        taken
    }

    /// Advances a lane after its segment was written up to `to`.
    pub fn written(&mut self, partition: i32, epoch: i64, to: i64, in_redis: RedisWrite) {
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        if lane.epoch == epoch {
            lane.in_flight = 0;
            lane.redis_progress.written(to, in_redis);
        }
    }

    /// Applies a finished repair of Redis that began when the lane was at `then`.
    pub fn repaired(&mut self, then: &LaneProgress) {
        let lane = self.lanes.get_mut(&then.partition).filter(|lane| lane.epoch == then.epoch);
        if let Some(lane) = lane {
            lane.redis_progress.repaired(&then.redis_progress);
        }
    }

    /// Returns the progress of every lane, for the repair of Redis.
    pub fn views(&self) -> Vec<LaneProgress> {
        let view = |(partition, lane): (&i32, &Lane)| LaneProgress {
            partition: *partition,
            epoch: lane.epoch,
            redis_progress: lane.redis_progress,
            idle: lane.in_flight == 0 && lane.waiting.is_empty(),
        };
        self.lanes.iter().map(view).collect()
    }

    /// Returns whether these partitions have nothing waiting and nothing in flight.
    pub fn is_drained(&self, partitions: &[i32]) -> bool {
        self.lanes
            .iter()
            .filter(|(partition, _)| partitions.contains(partition))
            .all(|(_, lane)| lane.in_flight == 0 && lane.waiting.is_empty())
    }

    /// Returns the partitions that this process owns.
    pub fn partitions(&self) -> Vec<i32> {
        self.lanes.keys().copied().collect()
    }

    /// Returns the Kafka record time of the oldest waiting delivery, in milliseconds.
    pub fn oldest_ms(&self) -> Option<i64> {
        let lanes = self.lanes.values();
        lanes.filter_map(|lane| lane.waiting.front()).map(|(_, segment)| segment.oldest_ms).min()
    }
}

#[cfg(test)]
#[path = "buffer_tests.rs"]
mod tests;
