//! The table of silences. Rows are added and ended, and not changed otherwise: they record who
//! silenced what, when and why.
//!
//! Runs statements. Times are the server's, in milliseconds since 1970.

use ljwx_ledger::mysql::{MySqlConnection, MySqlPool};
use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow};

use super::index::Silence;
use crate::notify::outbox::NOW_MS;
use crate::notify::row_bound;

/// Most silences in effect or planned.
pub const UNFINISHED_MAX: usize = 20_000;

/// Days for which rows are kept after their end.
const KEPT_DAYS: i64 = 400;

/// Rows removed by one statement.
const REMOVED_MAX: i64 = 1_000;

/// A silence as it is added.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize)]
pub struct NewSilence {
    /// Tenant; `None`: any.
    pub customer_id: Option<i64>,
    /// Device; `None`: any.
    pub device_sn: Option<String>,
    /// Rule; `None`: any.
    pub rule_id: Option<i64>,
    /// The reason.
    pub reason: String,
    /// The author.
    pub author: String,
    /// Start.
    pub starts_at: i64,
    /// End, unless an operator ends the silence earlier.
    pub ends_at: i64,
}

/// A row of the table as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize)]
pub struct SilenceRow {
    /// The row's id.
    pub id: i64,
    /// The silence as it was added.
    #[sqlx(flatten)]
    #[serde(flatten)]
    pub silence: NewSilence,
    /// Time at which an operator ended the silence.
    pub ended_at: Option<i64>,
    /// The operator who ended the silence.
    pub ended_by: Option<String>,
    /// Time at which the silence was added.
    pub created_at: i64,
}

impl SilenceRow {
    /// Returns the silence's state at `now` in a word.
    pub fn state(&self, now: i64) -> &'static str {
        if self.ended_at.is_some() {
            "ended"
        } else if now >= self.silence.ends_at {
            "over"
        } else if now >= self.silence.starts_at {
            "active"
        } else {
            "planned"
        }
    }
}

/// Returns the server's clock.
pub async fn now_ms(connection: &mut MySqlConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT {NOW_MS}"))).fetch_one(connection).await
}

/// Returns the silences in effect or planned. Of more than [`UNFINISHED_MAX`], the newest have no
/// effect. `alerter silence add` adds no more, so only other programs can create so many.
pub async fn unfinished(connection: &mut MySqlConnection) -> sqlx::Result<Vec<Silence>> {
    let query = format!(
        "SELECT customer_id, device_sn, rule_id, starts_at, ends_at FROM t_alert_silence \
         WHERE ends_at > {NOW_MS} AND ended_at IS NULL ORDER BY id LIMIT {}",
        UNFINISHED_MAX + 1
    );
    let mut silences: Vec<Silence> =
        sqlx::query_as(AssertSqlSafe(query)).fetch_all(connection).await?;
    row_bound::cut("t_alert_silence", UNFINISHED_MAX, &mut silences);
    Ok(silences)
}

/// Counts the silences in effect or planned.
pub async fn count_unfinished(connection: &mut MySqlConnection) -> sqlx::Result<i64> {
    let query = format!(
        "SELECT COUNT(*) FROM t_alert_silence WHERE ends_at > {NOW_MS} AND ended_at IS NULL"
    );
    sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(connection).await
}

/// Adds a silence and returns its id.
pub async fn add(connection: &mut MySqlConnection, silence: &NewSilence) -> sqlx::Result<i64> {
    let query = format!(
        "INSERT INTO t_alert_silence (customer_id, device_sn, rule_id, reason, author, starts_at, \
         ends_at, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, {NOW_MS})"
    );
    let added = sqlx::query(AssertSqlSafe(query))
        .bind(silence.customer_id)
        .bind(&silence.device_sn)
        .bind(silence.rule_id)
        .bind(&silence.reason)
        .bind(&silence.author)
        .bind(silence.starts_at)
        .bind(silence.ends_at)
        .execute(connection)
        .await?;
    // A key of BIGINT never gets near the sign bit.
    Ok(added.last_insert_id().cast_signed())
}

/// Ends a silence in effect or planned. Returns whether `id` was such a silence.
pub async fn end(pool: &MySqlPool, id: i64, ended_by: &str) -> sqlx::Result<bool> {
    let query = format!(
        "UPDATE t_alert_silence SET ended_at = {NOW_MS}, ended_by = ? \
         WHERE id = ? AND ended_at IS NULL AND ends_at > {NOW_MS}"
    );
    let ended = sqlx::query(AssertSqlSafe(query)).bind(ended_by).bind(id).execute(pool).await?;
    Ok(ended.rows_affected() > 0)
}

/// Returns the row with this id.
pub async fn find(pool: &MySqlPool, id: i64) -> sqlx::Result<Option<SilenceRow>> {
    let query = format!("SELECT {COLUMNS} FROM t_alert_silence WHERE id = ?");
    sqlx::query_as(AssertSqlSafe(query)).bind(id).fetch_optional(pool).await
}

/// Returns the newest `max` rows, newest first. Without `all`, returns only silences in effect or
/// planned.
pub async fn list(
    connection: &mut MySqlConnection,
    all: bool,
    max: usize,
) -> sqlx::Result<Vec<SilenceRow>> {
    let query = format!(
        "SELECT {COLUMNS} FROM t_alert_silence \
         WHERE ? OR (ends_at > {NOW_MS} AND ended_at IS NULL) ORDER BY id DESC LIMIT {max}"
    );
    sqlx::query_as(AssertSqlSafe(query)).bind(all).fetch_all(connection).await
}

const COLUMNS: &str = "id, customer_id, device_sn, rule_id, reason, author, starts_at, ends_at, \
     ended_at, ended_by, created_at";

/// Removes rows whose end is long past.
pub async fn remove_old(connection: &mut MySqlConnection) -> sqlx::Result<u64> {
    let query = format!(
        "DELETE FROM t_alert_silence WHERE ends_at < {NOW_MS} - {} LIMIT {REMOVED_MAX}",
        KEPT_DAYS * 86_400_000
    );
    Ok(sqlx::query(AssertSqlSafe(query)).execute(connection).await?.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_planned_then_active_then_over_unless_it_is_ended() {
        let silence = NewSilence {
            customer_id: Some(7),
            device_sn: None,
            rule_id: None,
            reason: "moving".into(),
            author: "ann".into(),
            starts_at: 1_000,
            ends_at: 2_000,
        };
        let record = SilenceRow { id: 1, silence, ended_at: None, ended_by: None, created_at: 500 };
        for (now, state) in
            [(999, "planned"), (1_000, "active"), (1_999, "active"), (2_000, "over")]
        {
            assert_eq!(record.state(now), state, "{now}");
            let ended = SilenceRow { ended_at: Some(1_200), ..record.clone() };
            assert_eq!(ended.state(now), "ended", "{now}");
        }
    }
}
