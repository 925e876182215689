//! Bounds the rows of one read of a table. The rows beyond the bound have no effect, so such a read
//! is counted and logged.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use metrics::counter;
use tracing::warn;

use crate::metrics::CUT_READS;

/// Cuts the rows of a read, and remembers the tables that were logged.
#[derive(Debug, Default)]
pub struct RowBound {
    logged: Mutex<BTreeSet<&'static str>>,
}

impl RowBound {
    /// Keeps the first `max` rows. The query must ask for one row more, to find out whether there
    /// are more rows.
    pub fn cut<T>(&self, table: &'static str, max: usize, rows: &mut Vec<T>) {
        if rows.len() <= max {
            return;
        }
        rows.truncate(max);
        counter!(CUT_READS).increment(1);
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.insert(table) {
            warn!(table, rows = max, "table has more rows than are read, ignoring the others");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_beyond_the_bound_are_cut_and_their_table_is_remembered() {
        let bound = RowBound::default();
        for (count, kept, logged) in [(0, 0, 0), (3, 3, 0), (4, 3, 1), (5, 3, 1)] {
            let mut rows: Vec<usize> = (0..count).collect();
            bound.cut("t_alert_silence", 3, &mut rows);
            assert_eq!(rows, (0..kept).collect::<Vec<_>>(), "{count}");
            assert_eq!(bound.logged.lock().unwrap().len(), logged, "{count}");
        }
    }
}
