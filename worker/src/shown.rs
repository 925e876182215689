//! How far Redis is with one partition; pure. What a batch could not show leaves a hole, and only a
//! repair closes it.

/// Redis beside the ledger, for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Everything before it is in Redis.
    up_to: i64,
    /// Everything before it is in MySQL.
    done: i64,
    /// Batches that did not reach Redis, ever: a repair closes the holes that it knew of.
    misses: u64,
}

impl Shown {
    /// As the ledger has it.
    pub fn new(redis_offset: i64, next_offset: i64) -> Self {
        // A group that was rewound has shown what it will go through again.
        Self { up_to: redis_offset.min(next_offset), done: next_offset, misses: 0 }
    }

    /// Everything before it is in Redis.
    pub fn up_to(&self) -> i64 {
        self.up_to
    }

    /// Everything before it is in MySQL.
    pub fn done(&self) -> i64 {
        self.done
    }

    /// Deliveries that Redis may lack.
    pub fn behind(&self) -> i64 {
        self.done - self.up_to
    }

    /// A batch was committed up to `to`.
    pub fn written(&mut self, to: i64, in_redis: bool) {
        if !in_redis {
            self.misses += 1;
        } else if self.behind() == 0 {
            self.up_to = to;
        }
        self.done = to;
    }

    /// A repair that began as `then` has shown everything of then.
    pub fn repaired(&mut self, then: &Self) {
        // What was written meanwhile either reached Redis by itself or is a miss.
        let reached = if then.misses == self.misses { self.done } else { then.done };
        self.up_to = self.up_to.max(reached);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_a_hole_redis_is_not_current() {
        let mut shown = Shown::new(10, 10);
        for (to, in_redis, up_to) in
            [(12, true, 12), (15, false, 12), (17, true, 12), (18, false, 12)]
        {
            shown.written(to, in_redis);
            assert_eq!((shown.up_to(), shown.done()), (up_to, to));
        }
        assert_eq!(shown.behind(), 6);
    }

    #[test]
    fn a_repair_covers_what_reached_redis_by_itself_meanwhile() {
        let mut shown = Shown::new(4, 10);
        let then = shown;
        shown.written(12, true);
        shown.repaired(&then);
        assert_eq!(shown.behind(), 0);
        shown.written(13, true);
        assert_eq!(shown.up_to(), 13);
    }

    #[test]
    fn a_repair_does_not_cover_what_was_missed_meanwhile() {
        let mut shown = Shown::new(4, 10);
        let then = shown;
        shown.written(12, false);
        shown.repaired(&then);
        assert_eq!((shown.up_to(), shown.behind()), (10, 2));
    }

    #[test]
    fn a_rewound_group_is_not_ahead_of_itself() {
        assert_eq!(Shown::new(20, 5).up_to(), 5);
    }
}
