//! A partition's row of the ledger, and the check that its counts add up.

use serde::Serialize;
use sqlx::FromRow;

/// One partition's row of the ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromRow, Serialize)]
pub struct LedgerRow {
    /// The partition.
    pub partition: i32,
    /// The offset at which the group began.
    pub first_offset: i64,
    /// The offset at which the group continues.
    pub next_offset: i64,
    /// Deliveries that became a row.
    pub stored: i64,
    /// Deliveries whose identity existed.
    pub merged: i64,
    /// Deliveries in the dead-letter topic.
    pub dead_lettered: i64,
    /// Offsets without a record, or skipped on an operator's order.
    pub skipped_gap: i64,
    /// Offsets gone back on an operator's order.
    pub rewound: i64,
    /// Deliveries that an alerter's group, which writes no rows of its own, has evaluated.
    pub processed: i64,
}

/// The columns of [`LedgerRow`] in a SELECT.
pub const LEDGER_COLUMNS: &str = "`partition`, first_offset, next_offset, `stored`, merged, \
     dead_lettered, skipped_gap, rewound, processed";

impl LedgerRow {
    /// Returns the number of offsets between the start and the position.
    pub fn passed(&self) -> i64 {
        self.next_offset - self.first_offset
    }

    /// Returns the number of offsets that the counts explain.
    pub fn explained(&self) -> i64 {
        self.stored + self.merged + self.dead_lettered + self.skipped_gap + self.processed
            - self.rewound
    }

    /// Returns the offsets that no count explains. 0 if the equation holds.
    pub fn difference(&self) -> i64 {
        self.passed() - self.explained()
    }

    /// Returns the names of values below zero, which no history can produce.
    pub fn negative(&self) -> Vec<&'static str> {
        [
            ("first_offset", self.first_offset),
            ("next_offset", self.next_offset),
            ("stored", self.stored),
            ("merged", self.merged),
            ("dead_lettered", self.dead_lettered),
            ("skipped_gap", self.skipped_gap),
            ("rewound", self.rewound),
            ("processed", self.processed),
        ]
        .into_iter()
        .filter(|(_, value)| *value < 0)
        .map(|(name, _)| name)
        .collect()
    }

    /// Returns this row after an operator's move to `target`. Skipped offsets are counted as
    /// `skipped_gap`, repeated ones as `rewound`, so the equation still holds.
    pub fn moved_to(mut self, target: i64) -> Self {
        let distance = target - self.next_offset;
        if distance > 0 {
            self.skipped_gap += distance;
        } else {
            self.rewound -= distance;
        }
        self.next_offset = target;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: LedgerRow = LedgerRow {
        partition: 3,
        first_offset: 100,
        next_offset: 120,
        stored: 10,
        merged: 5,
        dead_lettered: 3,
        skipped_gap: 4,
        rewound: 2,
        processed: 0,
    };

    #[test]
    fn every_count_is_a_term_of_the_equation() {
        assert_eq!((ENTRY.passed(), ENTRY.explained(), ENTRY.difference()), (20, 20, 0));
        for (changed, difference) in [
            (LedgerRow { first_offset: 99, ..ENTRY }, 1),
            (LedgerRow { next_offset: 119, ..ENTRY }, -1),
            (LedgerRow { stored: 11, ..ENTRY }, -1),
            (LedgerRow { merged: 4, ..ENTRY }, 1),
            (LedgerRow { dead_lettered: 4, ..ENTRY }, -1),
            (LedgerRow { skipped_gap: 5, ..ENTRY }, -1),
            (LedgerRow { rewound: 3, ..ENTRY }, 1),
            (LedgerRow { processed: 1, ..ENTRY }, -1),
        ] {
            assert_eq!(changed.difference(), difference, "{changed:?}");
        }
    }

    #[test]
    fn a_move_keeps_the_equation_wherever_it_goes() {
        for target in [0, 99, 100, 119, 120, 121, 5000] {
            let moved = ENTRY.moved_to(target);
            assert_eq!((moved.next_offset, moved.difference()), (target, 0));
            assert!(moved.skipped_gap >= ENTRY.skipped_gap && moved.rewound >= ENTRY.rewound);
        }
        assert_eq!(ENTRY.moved_to(130).skipped_gap, 14);
        assert_eq!(ENTRY.moved_to(110).rewound, 12);
    }
}
