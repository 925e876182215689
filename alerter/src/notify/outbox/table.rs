//! The table of notifications, and the parts that its statements share.
//!
//! Each group of statements is an `impl` in a file of its own.

use std::time::Duration;

pub(super) use ljwx_ledger::mysql::sql::push_in;
use ljwx_ledger::mysql::{MySqlConnection, MySqlPool};
use sqlx::{MySql, QueryBuilder};

use crate::rules::Channel;

/// The server's clock in milliseconds.
pub(crate) const NOW_MS: &str = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)";

/// Matches rows that the recipient received or may have received.
pub(super) const NOTIFIED: &str = "(state = 'sent' OR uncertain_since IS NOT NULL)";

/// The reason of a row that waits because its recipient is at the limit.
pub const RECIPIENT_LIMIT: &str = "recipient_limit";

/// The reason of a row whose digest the platform refused. The row is sent by itself, because it may
/// be the one at fault.
pub(super) const FROM_DIGEST: &str = "from_digest";

/// Longest reason that a row holds, in bytes.
pub(super) const REASON_BYTES_MAX: usize = 255;

/// The outbox of this database.
#[derive(Debug, Clone)]
pub struct Outbox {
    /// The database.
    pub pool: MySqlPool,
}

/// A time in the unit of the table's columns.
pub fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Returns a time that a statement computed in milliseconds. A negative time is 0.
pub fn from_milliseconds(time: i64) -> Duration {
    Duration::from_millis(u64::try_from(time).unwrap_or_default())
}

/// Returns the pattern of a channel's recipients. Kinds are our own words and contain no wildcard of
/// LIKE.
pub(super) fn addresses(channel: Channel) -> String {
    format!("{}:%", channel.kind())
}

/// Changes the rows of these ids. `statement` ends before their `IN (…)`. Returns the number of rows.
pub(super) async fn change(
    connection: &mut MySqlConnection,
    statement: impl Into<String>,
    ids: &[i64],
) -> sqlx::Result<u64> {
    if ids.is_empty() {
        return Ok(0);
    }
    let changed = with_ids(statement, ids).build().execute(connection).await?;
    Ok(changed.rows_affected())
}

/// Returns a statement that ends with `IN (…)` of these ids.
pub(super) fn with_ids<'a>(
    statement: impl Into<String>,
    ids: impl IntoIterator<Item = &'a i64>,
) -> QueryBuilder<MySql> {
    let mut query = QueryBuilder::new(statement);
    push_in(&mut query, ids);
    query
}
