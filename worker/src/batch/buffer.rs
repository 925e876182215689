//! Holds the deliveries that are read and not yet written, by lane. Pure: time comes as an
//! argument.
//!
//! A lane is the queue of one partition. Its deliveries form segments, and at most one segment is
//! in flight. So the batches of one partition follow one another, and those of different partitions
//! run at the same time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use ljwx_ledger::group::delivery::{Delivery, DeliveryLoad};
use ljwx_ledger::ledger::Claim;
use opentelemetry::trace::SpanContext;

use crate::batch::redis_progress::{LaneProgress, RedisProgress, RedisWrite};
use crate::batch::room::{LaneLoad, Room};
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
    /// The room for deliveries in memory.
    pub room: Room,
}

/// Rows that make a batch worth its statements.
pub const FAST_ROWS: usize = 50;

/// Time in flight after which a lane counts as stuck. To hold a lane back discards what was fetched
/// of its partition, so a shorter stall holds no lane back.
const STUCK_AFTER: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Lane {
    epoch: i64,
    next: i64,
    in_flight: Option<InFlight>,
    waiting: VecDeque<(Instant, Segment)>,
    /// Whether the first segment came back from a held batch and goes into a batch of its own.
    is_alone: bool,
    redis_progress: RedisProgress,
}

/// The segment of a lane that is being written.
#[derive(Debug)]
struct InFlight {
    load: DeliveryLoad,
    since: Instant,
}

impl Lane {
    /// Returns the deliveries in memory, waiting or in flight.
    fn load(&self) -> DeliveryLoad {
        let waiting = self.waiting.iter().map(|(_, segment)| segment.load());
        waiting.chain(self.in_flight.as_ref().map(|in_flight| in_flight.load)).sum()
    }

    fn is_stuck(&self, now: Instant) -> bool {
        let since = |in_flight: &InFlight| now.saturating_duration_since(in_flight.since);
        self.in_flight.as_ref().is_some_and(|in_flight| since(in_flight) >= STUCK_AFTER)
    }

    fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.waiting.is_empty()
    }
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
            in_flight: None,
            waiting: VecDeque::new(),
            is_alone: false,
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
        let is_full = lane.waiting.back().is_none_or(|(_, segment)| {
            segment.row_count() >= self.limits.batch_rows
                || segment.bytes >= self.limits.batch_bytes
        });
        // The ledger may have taken a COMMIT of a segment that came back: its end must not move.
        let came_back = lane.is_alone && lane.in_flight.is_none() && lane.waiting.len() == 1;
        if is_full || came_back {
            let segment = Segment::new(delivery.partition, delivery.epoch, expected);
            lane.waiting.push_back((now, segment));
        }
        if let Some((_, segment)) = lane.waiting.back_mut() {
            segment.push(delivery, origin);
        }
    }

    /// Returns the deliveries in memory, waiting or in flight.
    pub fn load(&self) -> DeliveryLoad {
        self.lanes.values().map(Lane::load).sum()
    }

    /// Returns whether more deliveries may be taken in.
    pub fn has_room(&self, now: Instant) -> bool {
        self.limits.room.is_left(&self.loads(now))
    }

    /// Returns the partitions of which no more deliveries should come for now.
    pub fn full_lanes(&self, now: Instant) -> BTreeSet<i32> {
        self.limits.room.full_lanes(&self.loads(now))
    }

    fn loads(&self, now: Instant) -> Vec<LaneLoad> {
        let load = |(partition, lane): (&i32, &Lane)| LaneLoad {
            partition: *partition,
            load: lane.load(),
            is_stuck: lane.is_stuck(now),
        };
        self.lanes.iter().map(load).collect()
    }

    /// Returns the reason to take a batch now, if there is one.
    pub fn due(&self, now: Instant) -> Option<FlushReason> {
        let (rows, bytes) = self.ready().fold((0, 0), |(rows, bytes), (_, segment)| {
            (rows + segment.row_count(), bytes + segment.bytes)
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
        let rows: usize = self.ready().map(|(_, segment)| segment.row_count()).sum();
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
            .filter(|lane| lane.in_flight.is_none())
            .filter_map(|lane| lane.waiting.front())
    }

    /// Takes the segments of one batch, oldest lanes first, until the batch is full. It takes no
    /// further lanes, because every lane costs a statement of its own.
    pub fn take(&mut self, now: Instant) -> Vec<Segment> {
        self.take_of(now, |_| true)
    }

    /// Takes the first segments of the given partitions, due or not. Further calls take the later
    /// segments.
    pub fn take_partitions(&mut self, partitions: &[i32], now: Instant) -> Vec<Segment> {
        self.take_of(now, |partition| partitions.contains(&partition))
    }

    fn take_of(&mut self, now: Instant, wanted: impl Fn(i32) -> bool) -> Vec<Segment> {
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
            if lane.is_alone && !taken.is_empty() {
                continue;
            }
            let Some((_, mut segment)) = lane.waiting.pop_front() else { continue };
            lane.in_flight = Some(InFlight { load: segment.load(), since: now });
            lane.next = segment.to;
            segment.redis_offset = Some(lane.redis_progress.up_to());
            segment.has_successor = !lane.waiting.is_empty();
            rows += segment.row_count();
            bytes += segment.bytes;
            taken.push(segment);
            if lane.is_alone {
                break;
            }
        }
        // Every writer locks rows of the ledger in this order.
        taken.sort_unstable_by_key(|segment| segment.partition);
        taken
    }

    /// Puts a segment of a held batch back, to be written alone: another lane of the batch may be
    /// the reason why the batch is held. Drops a segment of a former claim.
    pub fn put_back(&mut self, segment: Segment, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&segment.partition) else { return };
        if lane.epoch == segment.epoch {
            lane.in_flight = None;
            lane.is_alone = true;
            lane.waiting.push_front((now, segment));
        }
    }

    /// Advances a lane after its segment was written up to `to`.
    pub fn written(&mut self, partition: i32, epoch: i64, to: i64, in_redis: RedisWrite) {
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        if lane.epoch == epoch {
            lane.in_flight = None;
            lane.is_alone = false;
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
            idle: lane.is_idle(),
        };
        self.lanes.iter().map(view).collect()
    }

    /// Returns whether these partitions have nothing waiting and nothing in flight.
    pub fn is_drained(&self, partitions: &[i32]) -> bool {
        self.lanes
            .iter()
            .filter(|(partition, _)| partitions.contains(partition))
            .all(|(_, lane)| lane.is_idle())
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
