//! Finds what waits for a recipient, and moves it into the row of a digest.
//!
//! Runs statements inside the caller's transaction. [`crate::notify::sender`] chooses the rows of
//! the digest.

use std::collections::HashSet;
use std::time::Duration;

use ljwx_ledger::mysql::MySqlConnection;
use sqlx::{FromRow, MySql, QueryBuilder};

use crate::engine::episode::EpisodeKey;
use crate::notify::notice::Notice;
use crate::notify::outbox::add::stored;
use crate::notify::outbox::fold::put_in;
use crate::notify::outbox::notification::DIGEST;
use crate::notify::outbox::table::{
    FROM_DIGEST, NOW_MS, Outbox, RECIPIENT_LIMIT, change, milliseconds, push_in, with_ids,
};
use crate::rules::Severity;

/// Most rows of one digest. Further rows wait for the next digest.
const ROWS_MAX: usize = 1_000;

/// A pending row, or a row that is folded into one.
#[derive(Debug, Clone, FromRow)]
pub struct WaitingRow {
    /// The row's id.
    pub id: i64,
    /// The row whose message reports this one: the row itself, or the one into which it is folded.
    pub message: i64,
    /// The row's episode.
    pub episode_key: String,
    /// The number of the row's transition within its episode.
    pub transition_seq: i32,
    /// The row's transition.
    pub transition: String,
    /// The severity, from 1 (info) to 5 (critical).
    pub severity: i8,
    /// The notice, as JSON.
    pub notice: String,
    /// Time since the event, in milliseconds.
    pub age_ms: i64,
    /// Whether a digest may take the row, no sender has the row, it cannot have arrived, and no
    /// digest holds an earlier row of its episode.
    pub free: bool,
}

/// Matches rows that a digest may take. A critical row is a message of its own.
pub(super) fn may_join() -> String {
    format!(
        "severity < {} AND transition <> '{DIGEST}' AND NOT (last_error <=> '{FROM_DIGEST}')",
        Severity::Critical.number()
    )
}

impl Outbox {
    /// Returns the recipient's pending rows, without digests.
    pub async fn waiting(&self, whom: (i64, &str)) -> sqlx::Result<Vec<i64>> {
        waiting(&mut self.pool.acquire().await?, whom, "1 = 1").await
    }

    /// Postpones a recipient's pending rows that cannot have arrived, because the recipient is at
    /// the limit. Critical rows have a limit of their own, and are postponed only if that one is
    /// reached, which is `critical`. Returns the number of rows.
    pub async fn postpone(
        &self,
        whom: (i64, &str),
        critical: bool,
        wait: Duration,
    ) -> sqlx::Result<u64> {
        let until = format!("{NOW_MS} + {}", milliseconds(wait));
        let limited = format!(
            "({critical} OR severity < {}) AND lease_until <= {NOW_MS}",
            Severity::Critical.number()
        );
        let sooner = format!("{limited} AND next_attempt_at < {until} AND uncertain_since IS NULL");
        let mut connection = self.pool.acquire().await?;
        let ids = waiting(&mut connection, whom, &sooner).await?;
        let postpone = format!(
            "UPDATE t_alert_outbox SET next_attempt_at = {until}, last_error = \
             IF(last_error <=> '{FROM_DIGEST}', last_error, '{RECIPIENT_LIMIT}') \
             WHERE state = 'pending' AND {limited} AND id"
        );
        change(&mut connection, postpone, &ids).await
    }
}

/// Returns the recipient's pending rows that meet `condition`, without digests.
async fn waiting(
    connection: &mut MySqlConnection,
    (customer_id, recipient): (i64, &str),
    condition: &str,
) -> sqlx::Result<Vec<i64>> {
    let query = format!(
        "SELECT id FROM t_alert_outbox WHERE customer_id = ? AND recipient = ? \
         AND state = 'pending' AND transition <> '{DIGEST}' AND {condition} \
         ORDER BY id LIMIT {ROWS_MAX}"
    );
    let query = sqlx::query_scalar(sqlx::AssertSqlSafe(query));
    query.bind(customer_id).bind(recipient).fetch_all(connection).await
}

/// Locks those of the recipient's rows that are still pending, and returns them and the rows that are
/// folded into them, each episode's in their order.
///
/// The lock keeps other replicas from grouping the rows or starting to send them. Folded rows change
/// only with the row that leads them.
pub async fn lock(
    connection: &mut MySqlConnection,
    (customer_id, recipient): (i64, &str),
    ids: &[i64],
) -> sqlx::Result<Vec<WaitingRow>> {
    // The order of the ids is the order of the locks, so replicas do not wait for each other. Rows
    // claimed in between are read as they are after the wait.
    let is_free = format!("{} AND uncertain_since IS NULL AND lease_until <= {NOW_MS}", may_join());
    let mut pending = with_ids(select("id", &is_free, "state = 'pending' AND id"), ids);
    pending.push(" ORDER BY id FOR UPDATE");
    let mut rows: Vec<WaitingRow> = pending.build_query_as().fetch_all(&mut *connection).await?;
    if rows.is_empty() {
        return Ok(rows);
    }
    let leaders: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let free: HashSet<i64> = rows.iter().filter(|row| row.free).map(|row| row.id).collect();
    // Not in the same statement: during its wait, another replica may have written a digest.
    let mut held: QueryBuilder<MySql> = QueryBuilder::new(
        "SELECT DISTINCT episode_key FROM t_alert_outbox WHERE state = 'in_digest' \
         AND customer_id = ",
    );
    held.push_bind(customer_id).push(" AND recipient = ").push_bind(recipient);
    held.push(" AND digest_id NOT");
    push_in(&mut held, &leaders);
    let held: Vec<String> = held.build_query_scalar().fetch_all(&mut *connection).await?;
    let folded = select("digest_id", "1", "state = 'in_digest' AND digest_id");
    let mut folded = with_ids(folded, &leaders);
    rows.extend(folded.build_query_as::<WaitingRow>().fetch_all(connection).await?);
    let held: HashSet<String> = held.into_iter().collect();
    for row in &mut rows {
        // A folded row is as free as the row that leads it.
        row.free = free.contains(&row.message) && !held.contains(&row.episode_key);
    }
    // A copy of an earlier row has a later id.
    rows.sort_by_key(|row| row.transition_seq);
    Ok(rows)
}

/// Returns the query of [`WaitingRow`]s. `rows` ends before the `IN (…)` of ids.
fn select(message: &str, free: &str, rows: &str) -> String {
    format!(
        "SELECT id, {message} AS message, episode_key, transition_seq, transition, severity, notice, \
         CAST({NOW_MS} - COALESCE(event_at, created_at) AS SIGNED) AS age_ms, \
         CAST({free} AS SIGNED) AS free FROM t_alert_outbox WHERE {rows}"
    )
}

/// Adds a digest of this severity and age and moves `members` into it, with what is folded into them.
/// Returns false if some members were no longer pending. The caller then has to roll back.
pub async fn write_digest(
    connection: &mut MySqlConnection,
    (customer_id, recipient): (i64, &str),
    (notice, severity, age_ms): (&Notice, i8, i64),
    members: &[i64],
) -> sqlx::Result<bool> {
    let query = format!(
        "INSERT INTO t_alert_outbox (episode_key, transition_seq, transition, recipient, \
         customer_id, notice, payload, next_attempt_at, created_at, event_at, severity) \
         VALUES (?, 0, '{DIGEST}', ?, ?, ?, '', {NOW_MS}, {NOW_MS}, {NOW_MS} - ?, ?)"
    );
    // Rows that come out of a digest may become another one, so the number is not one of theirs.
    let key = EpisodeKey::of_digest(customer_id, recipient, rand::random());
    let added = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(key.as_str())
        .bind(recipient)
        .bind(customer_id)
        .bind(stored(notice))
        .bind(age_ms)
        .bind(severity)
        .execute(&mut *connection)
        .await?;
    let digest = i64::try_from(added.last_insert_id()).unwrap_or(i64::MAX);
    let moved = put_in(connection, digest, "state = 'pending' AND id", members).await?;
    put_in(connection, digest, "state = 'in_digest' AND digest_id", members).await?;
    Ok(moved == members.len() as u64)
}
