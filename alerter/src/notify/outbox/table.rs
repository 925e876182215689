//! The table of notifications, and the parts that its statements share.
//!
//! Each group of statements is an `impl` in a file of its own.

use std::time::Duration;

use ljwx_ledger::mysql::MySqlPool;
use sqlx::{MySql, QueryBuilder};

/// The server's clock in milliseconds.
pub(crate) const NOW_MS: &str = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)";

/// Longest reason that a row keeps, in bytes.
pub(super) const REASON_BYTES_MAX: usize = 255;

/// The outbox as its senders see it.
#[derive(Debug, Clone)]
pub struct Outbox {
    pub(super) pool: MySqlPool,
}

impl Outbox {
    /// The outbox in this database.
    pub fn new(pool: MySqlPool) -> Self {
        Self { pool }
    }
}

/// A time as the table's columns count it.
pub(super) fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Adds `IN (…)` with these numbers.
pub(super) fn push_in(query: &mut QueryBuilder<MySql>, ids: &[i64]) {
    query.push(" IN ").push_tuples(ids, |mut row, id| {
        row.push_bind(id);
    });
}
