//! How far Redis is with one partition; pure. What a batch could not show leaves a hole, and only a
//! repair closes it; what it put off is shown with a later one.

/// Whether Redis has what a segment brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InRedis {
    /// It has, and everything that was put off before.
    Yes,
    /// Not yet: it is shown with a segment that waits already.
    Later,
    /// It may lack it, and what was put off before.
    No,
}

/// Redis beside the ledger, for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Everything before it is in Redis.
    up_to: i64,
    /// Everything before it is in MySQL.
    done: i64,
    /// Where what was put off and not shown yet begins.
    put_off: Option<i64>,
    /// Whether something before that may be missing.
    hole: bool,
    /// Batches that did not reach Redis, ever: a repair closes the holes that it knew of.
    misses: u64,
}

impl Shown {
    /// As the ledger has it.
    pub fn new(redis_offset: i64, next_offset: i64) -> Self {
        // A group that was rewound has shown what it will go through again.
        let up_to = redis_offset.min(next_offset);
        Self { up_to, done: next_offset, put_off: None, hole: up_to < next_offset, misses: 0 }
    }

    /// Everything before it is in Redis.
    pub fn up_to(&self) -> i64 {
        self.up_to
    }

    /// Everything before it is in MySQL.
    pub fn done(&self) -> i64 {
        self.done
    }

    /// Deliveries that Redis may lack and that no batch will show.
    pub fn behind(&self) -> i64 {
        if self.hole { self.done - self.up_to } else { 0 }
    }

    /// A batch was committed up to `to`.
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

    /// A repair that began as `then` has shown everything of then.
    pub fn repaired(&mut self, then: &Self) {
        // What was written meanwhile reached Redis by itself, was put off, or is a miss.
        self.hole = then.misses != self.misses;
        let by_itself = if self.hole { then.done } else { self.put_off.unwrap_or(self.done) };
        self.up_to = self.up_to.max(by_itself).max(then.done);
    }
}

/// One partition as the pipeline has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneView {
    /// The partition.
    pub partition: i32,
    /// Its claim.
    pub epoch: i64,
    /// How far Redis is.
    pub shown: Shown,
    /// Whether no batch is on its way that would tell the ledger.
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
        // What was put off before it began it has shown from MySQL.
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
