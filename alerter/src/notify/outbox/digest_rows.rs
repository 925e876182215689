//! Finds what waits for a recipient, and moves it into the row of a digest.
//!
//! Runs statements inside the caller's transaction. [`crate::notify::sender`] chooses the rows of
//! the digest.

use std::collections::HashSet;
use std::time::Duration;

use ljwx_ledger::mysql::MySqlConnection;
use sqlx::{FromRow, MySql, QueryBuilder};

use crate::mysql::alert_rows::{EpisodeKey, OVER};
use crate::notify::notice::Notice;
use crate::notify::outbox::add::stored;
use crate::notify::outbox::fold::refold;
use crate::notify::outbox::notification::DIGEST;
use crate::notify::outbox::table::{
    FROM_DIGEST, NOW_MS, Outbox, RECIPIENT_LIMIT, milliseconds, push_in,
};
use crate::rules::severity::Severity;

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
    pub async fn waiting(
        &self,
        (customer_id, recipient): (i64, &str),
    ) -> Result<Vec<i64>, sqlx::Error> {
        let query = format!(
            "SELECT id FROM t_alert_outbox WHERE customer_id = ? AND recipient = ? \
             AND state = 'pending' AND transition <> '{DIGEST}' ORDER BY id LIMIT {ROWS_MAX}"
        );
        sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .bind(customer_id)
            .bind(recipient)
            .fetch_all(&self.pool)
            .await
    }

    /// Postpones a recipient's pending rows that cannot have arrived, because the recipient is at
    /// the limit. Critical rows have a limit of their own, and are postponed only if that one is
    /// reached, which is `critical`. Returns the number of rows.
    pub async fn postpone(
        &self,
        (customer_id, recipient): (i64, &str),
        critical: bool,
        wait: Duration,
    ) -> Result<u64, sqlx::Error> {
        let limited = format!("({critical} OR severity < {})", Severity::Critical.number());
        let until = format!("{NOW_MS} + {}", milliseconds(wait));
        let found = format!(
            "SELECT id FROM t_alert_outbox WHERE customer_id = ? AND recipient = ? \
             AND state = 'pending' AND transition <> '{DIGEST}' AND {limited} \
             AND next_attempt_at < {until} AND uncertain_since IS NULL \
             AND lease_until <= {NOW_MS} ORDER BY id LIMIT {ROWS_MAX}"
        );
        let ids: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(found))
            .bind(customer_id)
            .bind(recipient)
            .fetch_all(&self.pool)
            .await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let mut query: QueryBuilder<MySql> = QueryBuilder::new(format!(
            "UPDATE t_alert_outbox SET next_attempt_at = {until}, last_error = \
             IF(last_error <=> '{FROM_DIGEST}', last_error, '{RECIPIENT_LIMIT}') \
             WHERE state = 'pending' AND {limited} AND lease_until <= {NOW_MS} AND id"
        ));
        push_in(&mut query, &ids);
        let postpone = query.build().execute(&self.pool).await?;
        Ok(postpone.rows_affected())
    }
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
) -> Result<Vec<WaitingRow>, sqlx::Error> {
    // The order of the ids is the order of the locks, so replicas do not wait for each other. Rows
    // claimed in between are read as they are after the wait.
    let mut query: QueryBuilder<MySql> = QueryBuilder::new(format!(
        "SELECT {}, id AS message, \
         CAST({} AND uncertain_since IS NULL AND lease_until <= {NOW_MS} AS SIGNED) AS free \
         FROM t_alert_outbox WHERE state = 'pending' AND id",
        columns(),
        may_join()
    ));
    push_in(&mut query, ids);
    query.push(" ORDER BY id FOR UPDATE");
    let mut rows: Vec<WaitingRow> = query.build_query_as().fetch_all(&mut *connection).await?;
    if rows.is_empty() {
        return Ok(rows);
    }
    // Not in the same statement: during its wait, another replica may have written a digest.
    let mut held: QueryBuilder<MySql> = QueryBuilder::new(
        "SELECT DISTINCT episode_key FROM t_alert_outbox WHERE state = 'in_digest' \
         AND customer_id = ",
    );
    held.push_bind(customer_id).push(" AND recipient = ").push_bind(recipient);
    held.push(" AND digest_id NOT");
    push_in(&mut held, rows.iter().map(|row| &row.id));
    let held: Vec<String> = held.build_query_scalar().fetch_all(&mut *connection).await?;
    let held: HashSet<String> = held.into_iter().collect();
    let folded = folded(connection, &rows).await?;
    rows.extend(folded);
    for row in &mut rows {
        row.free &= !held.contains(&row.episode_key);
    }
    // A copy of an earlier row has a later id.
    rows.sort_by_key(|row| row.transition_seq);
    Ok(rows)
}

/// Returns the rows that are folded into these, each as free as the row that leads it.
async fn folded(
    connection: &mut MySqlConnection,
    leaders: &[WaitingRow],
) -> Result<Vec<WaitingRow>, sqlx::Error> {
    let mut query: QueryBuilder<MySql> = QueryBuilder::new(format!(
        "SELECT {}, digest_id AS message, CAST(1 AS SIGNED) AS free \
         FROM t_alert_outbox WHERE state = 'in_digest' AND digest_id",
        columns()
    ));
    push_in(&mut query, leaders.iter().map(|row| &row.id));
    let mut folded: Vec<WaitingRow> = query.build_query_as().fetch_all(connection).await?;
    let free: HashSet<i64> = leaders.iter().filter(|row| row.free).map(|row| row.id).collect();
    folded.iter_mut().for_each(|row| row.free = free.contains(&row.message));
    Ok(folded)
}

/// Returns the columns of a [`WaitingRow`] that need no choice.
fn columns() -> String {
    format!(
        "id, episode_key, transition_seq, transition, severity, notice, \
         CAST({NOW_MS} - COALESCE(event_at, created_at) AS SIGNED) AS age_ms"
    )
}

/// Returns those episodes of the rows that are over.
pub async fn over(
    connection: &mut MySqlConnection,
    ids: &[i64],
) -> Result<HashSet<String>, sqlx::Error> {
    let mut query: QueryBuilder<MySql> = QueryBuilder::new(format!(
        "SELECT DISTINCT waiting.episode_key FROM t_alert_outbox AS waiting \
         JOIN t_alert_info AS alert ON alert.dedup_key = waiting.episode_key \
         WHERE {OVER} AND waiting.id"
    ));
    push_in(&mut query, ids);
    let over: Vec<String> = query.build_query_scalar().fetch_all(connection).await?;
    Ok(over.into_iter().collect())
}

/// Drops rows of episodes that are over before anyone was notified. What is folded into one of them
/// goes by itself, see [`Outbox::free_others`].
pub async fn drop_over(connection: &mut MySqlConnection, ids: &[i64]) -> Result<(), sqlx::Error> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut query: QueryBuilder<MySql> = QueryBuilder::new(format!(
        "UPDATE t_alert_outbox SET state = 'dropped', digest_id = NULL, last_error = 'over', \
         finished_at = {NOW_MS}, next_attempt_at = {NOW_MS} \
         WHERE state IN ('pending', 'in_digest') AND id"
    ));
    push_in(&mut query, ids);
    query.build().execute(connection).await?;
    Ok(())
}

/// Adds a digest of this severity and moves `members` into it, with what is folded into them. Returns
/// false if some members were no longer pending. The caller then has to roll back.
pub async fn write_digest(
    connection: &mut MySqlConnection,
    (customer_id, recipient): (i64, &str),
    (notice, severity): (&Notice, i8),
    members: &[i64],
) -> Result<bool, sqlx::Error> {
    let query = format!(
        "INSERT INTO t_alert_outbox (episode_key, transition_seq, transition, recipient, \
         customer_id, notice, payload, next_attempt_at, created_at, severity) \
         VALUES (?, 0, '{DIGEST}', ?, ?, ?, '', {NOW_MS}, {NOW_MS}, ?)"
    );
    // Rows that come out of a digest may become another one, so the number is not one of theirs.
    let key = EpisodeKey::of_digest(customer_id, recipient, rand::random());
    let added = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(key.as_str())
        .bind(recipient)
        .bind(customer_id)
        .bind(stored(notice))
        .bind(severity)
        .execute(&mut *connection)
        .await?;
    let digest = i64::try_from(added.last_insert_id()).unwrap_or(i64::MAX);
    let mut query: QueryBuilder<MySql> =
        QueryBuilder::new("UPDATE t_alert_outbox SET state = 'in_digest', digest_id = ");
    query.push_bind(digest);
    query.push(" WHERE state = 'pending' AND id");
    push_in(&mut query, members);
    let updated = query.build().execute(&mut *connection).await?;
    refold(connection, members, digest).await?;
    Ok(updated.rows_affected() == members.len() as u64)
}
