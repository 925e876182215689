//! Tracks up to which offset Redis is current on one partition. A batch that Redis missed leaves a
//! gap that only a repair closes. A deferred batch is written with a later batch. Pure.

/// Whether Redis has the rows of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisWrite {
    /// Redis has the rows, and all rows that were deferred before.
    Done,
    /// The rows are deferred to a segment that already waits.
    Deferred,
    /// Redis may be missing the rows, and the rows that were deferred before.
    Missed,
}

/// The progress of MySQL and Redis on one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedisProgress {
    /// Every delivery before this offset is in Redis.
    up_to: i64,
    /// Every delivery before this offset is in MySQL.
    done: i64,
    /// First offset of the deferred rows that are not written yet.
    deferred_from: Option<i64>,
    /// Whether Redis may be missing rows that no later batch writes.
    has_gap: bool,
    /// Batches that Redis ever missed. A repair closes only the gaps of batches that it counted.
    misses: u64,
}

impl RedisProgress {
    /// Creates the progress that the ledger has.
    pub fn new(redis_offset: i64, next_offset: i64) -> Self {
        // In a rewound group Redis already has the deliveries that are reprocessed.
        let up_to = redis_offset.min(next_offset);
        Self {
            up_to,
            done: next_offset,
            deferred_from: None,
            has_gap: up_to < next_offset,
            misses: 0,
        }
    }

    /// Returns the offset before which every delivery is in Redis.
    pub fn up_to(&self) -> i64 {
        self.up_to
    }

    /// Returns the offset before which every delivery is in MySQL.
    pub fn done(&self) -> i64 {
        self.done
    }

    /// Returns the number of deliveries that Redis may be missing and that no batch will write.
    pub fn behind(&self) -> i64 {
        if self.has_gap { self.done - self.up_to } else { 0 }
    }

    /// Advances the progress after a batch was committed up to `to`.
    pub fn written(&mut self, to: i64, in_redis: RedisWrite) {
        match in_redis {
            RedisWrite::Deferred => self.deferred_from = self.deferred_from.or(Some(self.done)),
            RedisWrite::Done | RedisWrite::Missed => self.deferred_from = None,
        }
        if in_redis == RedisWrite::Missed {
            self.misses += 1;
            self.has_gap = true;
        } else if in_redis == RedisWrite::Done && !self.has_gap {
            self.up_to = to;
        }
        self.done = to;
    }

    /// Applies a finished repair, which wrote to Redis every delivery before the end of `then`.
    pub fn repaired(&mut self, then: &Self) {
        // A batch that was written meanwhile reached Redis, was deferred, or was missed.
        self.has_gap = then.misses != self.misses;
        let by_itself =
            if self.has_gap { then.done } else { self.deferred_from.unwrap_or(self.done) };
        self.up_to = self.up_to.max(by_itself).max(then.done);
    }
}

/// The progress of one lane, for the repair of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneProgress {
    pub partition: i32,
    /// Epoch of the claim.
    pub epoch: i64,
    /// Progress of MySQL and Redis.
    pub redis_progress: RedisProgress,
    /// Whether the lane is empty, so that no batch will advance `redis_offset` in the ledger.
    pub idle: bool,
}

#[cfg(test)]
mod tests {
    use super::RedisWrite::{Deferred, Done, Missed};
    use super::*;

    #[test]
    fn past_a_hole_redis_is_not_current() {
        let mut shown = RedisProgress::new(10, 10);
        for (to, in_redis, up_to) in
            [(12, Done, 12), (15, Missed, 12), (17, Done, 12), (18, Missed, 12)]
        {
            shown.written(to, in_redis);
            assert_eq!((shown.up_to(), shown.done()), (up_to, to));
        }
        assert_eq!(shown.behind(), 6);
    }

    #[test]
    fn a_repair_covers_what_reached_redis_by_itself_meanwhile() {
        let mut shown = RedisProgress::new(4, 10);
        let then = shown;
        shown.written(12, Done);
        shown.repaired(&then);
        assert_eq!(shown.behind(), 0);
        shown.written(13, Done);
        assert_eq!(shown.up_to(), 13);
    }

    #[test]
    fn a_repair_does_not_cover_what_was_missed_meanwhile() {
        let mut shown = RedisProgress::new(4, 10);
        let then = shown;
        shown.written(12, Missed);
        shown.repaired(&then);
        assert_eq!((shown.up_to(), shown.behind()), (10, 2));
    }

    #[test]
    fn what_was_put_off_is_no_hole_and_not_yet_shown() {
        let mut shown = RedisProgress::new(10, 10);
        for (to, in_redis, up_to, behind) in [
            (12, Deferred, 10, 0),
            (15, Deferred, 10, 0),
            (17, Done, 17, 0),
            (18, Deferred, 17, 0),
            (20, Missed, 17, 3),
            (21, Deferred, 17, 4),
            (22, Done, 17, 5),
        ] {
            shown.written(to, in_redis);
            assert_eq!((shown.up_to(), shown.behind()), (up_to, behind), "at {to}");
        }
    }

    #[test]
    fn a_repair_does_not_cover_what_is_put_off_meanwhile() {
        let mut shown = RedisProgress::new(4, 10);
        let then = shown;
        shown.written(12, Done);
        shown.written(14, Deferred);
        shown.repaired(&then);
        assert_eq!((shown.up_to(), shown.behind()), (12, 0));
        // The repair has written from MySQL the rows that were deferred before it began.
        let mut shown = RedisProgress::new(4, 10);
        shown.written(12, Deferred);
        let then = shown;
        shown.repaired(&then);
        assert_eq!((shown.up_to(), shown.behind()), (12, 0));
    }

    #[test]
    fn a_rewound_group_is_not_ahead_of_itself() {
        assert_eq!(RedisProgress::new(20, 5).up_to(), 5);
    }
}
