//! Bounds the rows of one read of a table. The rows beyond the bound have no effect, so such a read
//! is counted and logged.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use metrics::counter;
use tracing::warn;

use crate::metrics::CUT_READS;

/// The tables of which this process has logged that they have too many rows.
static LOGGED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// Keeps the first `max` rows of a read of `table`. The query must ask for one row more, to find out
/// whether there are more rows.
pub fn cut<T>(table: &'static str, max: usize, rows: &mut Vec<T>) {
    if rows.len() <= max {
        return;
    }
    rows.truncate(max);
    counter!(CUT_READS).increment(1);
    if LOGGED.lock().unwrap_or_else(PoisonError::into_inner).insert(table) {
        warn!(table, rows = max, "table has more rows than are read, ignoring the others");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_beyond_the_bound_are_cut_and_their_table_is_remembered() {
        for (count, kept, logged) in [(0, 0, false), (3, 3, false), (4, 3, true), (5, 3, true)] {
            let mut rows: Vec<usize> = (0..count).collect();
            cut("t_of_a_test", 3, &mut rows);
            assert_eq!(rows, (0..kept).collect::<Vec<_>>(), "{count}");
            assert_eq!(LOGGED.lock().unwrap().contains("t_of_a_test"), logged, "{count}");
        }
    }
}
