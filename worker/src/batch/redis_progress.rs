//! Tracks up to which offset Redis is current on one partition. A batch that Redis missed leaves a
//! gap that only a repair closes. A deferred batch is written with a later batch. Pure.

/// Whether Redis has the rows of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InRedis {
    /// Redis has the rows, and all rows that were deferred before.
    Yes,
    /// The rows are deferred to a segment that already waits.
    Later,
    /// Redis may be missing the rows, and the rows that were deferred before.
    No,
}

/// The progress of MySQL and Redis on one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Every delivery before this offset is in Redis.
    up_to: i64,
    /// Every delivery before this offset is in MySQL.
    done: i64,
    /// First offset of the deferred rows that are not written yet.
    put_off: Option<i64>,
    /// Whether Redis may be missing rows that no later batch writes.
    hole: bool,
    /// Batches that Redis ever missed. A repair closes only the gaps of batches that it counted.
    misses: u64,
}

impl Shown {
    /// Creates the progress that the ledger has.
    pub fn new(redis_offset: i64, next_offset: i64) -> Self {
        // In a rewound group Redis already has the deliveries that are reprocessed.
        let up_to = redis_offset.min(next_offset);
        Self { up_to, done: next_offset, put_off: None, hole: up_to < next_offset, misses: 0 }
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
        if self.hole { self.done - self.up_to } else { 0 }
    }

    /// Advances the progress after a batch was committed up to `to`.
    pub fn written(&mut self, to: i64, in_redis: InRedis) {
        match in_redis {
            InRedis::Later => self.put_off = self.put_off.or(Some(self.done)),
            InRedis::Yes | InRedis::No => self.put_off = None,
        }
        if in_redis == InRedis::No {
            self.misses += 1;
            self.hole = true;
        } else if in_redis == InRedis::Yes && !self.hole {
            self.up_to = to;
        }
        self.done = to;
    }

    /// Applies a finished repair, which wrote to Redis every delivery before the end of `then`.
    pub fn repaired(&mut self, then: &Self) {
        // A batch that was written meanwhile reached Redis, was deferred, or was missed.
        self.hole = then.misses != self.misses;
        let by_itself = if self.hole { then.done } else { self.put_off.unwrap_or(self.done) };
        self.up_to = self.up_to.max(by_itself).max(then.done);
    }
}

/// The progress of one lane, for the repair of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneView {
    pub partition: i32,
    /// Epoch of the claim.
    pub epoch: i64,
    /// Progress of MySQL and Redis.
    pub shown: Shown,
    /// Whether the lane is empty, so that no batch will advance `redis_offset` in the ledger.
    pub idle: bool,
}

#[cfg(test)]
mod tests {
    use super::InRedis::{Later, No, Yes};
    use super::*;

    #[test]
    fn past_a_hole_redis_is_not_current() {
        let mut shown = Shown::new(10, 10);
        for (to, in_redis, up_to) in [(12, Yes, 12), (15, No, 12), (17, Yes, 12), (18, No, 12)] {
            shown.written(to, in_redis);
            assert_eq!((shown.up_to(), shown.done()), (up_to, to));
        }
        assert_eq!(shown.behind(), 6);
    }

    #[test]
    fn a_repair_covers_what_reached_redis_by_itself_meanwhile() {
        let mut shown = Shown::new(4, 10);
        let then = shown;
        shown.written(12, Yes);
        shown.repaired(&then);
        assert_eq!(shown.behind(), 0);
        shown.written(13, Yes);
        assert_eq!(shown.up_to(), 13);
    }

    #[test]
    fn a_repair_does_not_cover_what_was_missed_meanwhile() {
        let mut shown = Shown::new(4, 10);
        let then = shown;
        shown.written(12, No);
        shown.repaired(&then);
        assert_eq!((shown.up_to(), shown.behind()), (10, 2));
    }

    #[test]
    fn what_was_put_off_is_no_hole_and_not_yet_shown() {
        let mut shown = Shown::new(10, 10);
        for (to, in_redis, up_to, behind) in [
            (12, Later, 10, 0),
            (15, Later, 10, 0),
            (17, Yes, 17, 0),
            (18, Later, 17, 0),
            (20, No, 17, 3),
            (21, Later, 17, 4),
            (22, Yes, 17, 5),
        ] {
            shown.written(to, in_redis);
            assert_eq!((shown.up_to(), shown.behind()), (up_to, behind), "at {to}");
        }
    }

    #[test]
    fn a_repair_does_not_cover_what_is_put_off_meanwhile() {
        let mut shown = Shown::new(4, 10);
        let then = shown;
        shown.written(12, Yes);
        shown.written(14, Later);
        shown.repaired(&then);
        assert_eq!((shown.up_to(), shown.behind()), (12, 0));
        // The repair has written from MySQL the rows that were deferred before it began.
        let mut shown = Shown::new(4, 10);
        shown.written(12, Later);
        let then = shown;
        shown.repaired(&then);
        assert_eq!((shown.up_to(), shown.behind()), (12, 0));
    }

    #[test]
    fn a_rewound_group_is_not_ahead_of_itself() {
        assert_eq!(Shown::new(20, 5).up_to(), 5);
    }
}
