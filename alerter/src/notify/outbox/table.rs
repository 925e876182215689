//! The table of notifications, and the parts that its statements share.
//!
//! Each group of statements is an `impl` in a file of its own.

use std::time::Duration;

use ljwx_ledger::mysql::MySqlPool;
use sqlx::{MySql, QueryBuilder};

/// The server's clock in milliseconds.
pub(crate) const NOW_MS: &str = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)";

/// Longest reason that a row holds, in bytes.
pub(super) const REASON_BYTES_MAX: usize = 255;

/// The outbox of this database.
#[derive(Debug, Clone)]
pub struct Outbox {
    pub(super) pool: MySqlPool,
}

impl Outbox {
    /// The outbox in the database of `pool`.
    pub fn new(pool: MySqlPool) -> Self {
        Self { pool }
    }
}

/// A time in the unit of the table's columns.
pub(super) fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Adds `IN (…)` with these ids.
pub(super) fn push_in(query: &mut QueryBuilder<MySql>, ids: &[i64]) {
    query.push(" IN ").push_tuples(ids, |mut row, id| {
        row.push_bind(id);
    });
}
