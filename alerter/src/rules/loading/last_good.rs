//! The last good version of each rule, in table `t_alert_rule_last_good`.
//!
//! Runs statements, each with a deadline. [`super::versions`] decides which versions are good, and
//! the caller handles failures. Replicas write the same rows. Each write replaces whole rows, so
//! the order of the writes does not matter.

use std::collections::HashMap;
use std::time::Duration;

use ljwx_ledger::mysql::MySqlPool;
use sqlx::{FromRow, MySql, QueryBuilder};

use super::versions::{VersionStamp, VersionToStore};

/// Rows of one statement, at most. A rule takes about 1 kB, and its texts 64 kB at most.
pub const ROWS_MAX: usize = 100;

/// Deadline of one statement: the rules must not wait for the store.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The reason why nothing could be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LastGoodError {
    /// MySQL returned an error.
    #[error("t_alert_rule_last_good: {0}")]
    MySql(#[from] sqlx::Error),
    /// MySQL did not answer in time.
    #[error("t_alert_rule_last_good: no answer within {} s", TIMEOUT.as_secs())]
    Timeout(#[from] tokio::time::error::Elapsed),
}

/// A stored version.
#[derive(Debug, Clone, FromRow)]
pub struct StoredVersion {
    /// Number of the rule.
    pub rule_id: i64,
    /// The rule's fields, as JSON.
    pub fields: String,
    /// Time of acceptance, by the devices' wall clock.
    pub accepted_at: String,
}

/// The stored versions of the rules of one source.
#[derive(Debug, Clone)]
pub struct LastGoodStore {
    pool: MySqlPool,
    source: &'static str,
}

impl LastGoodStore {
    /// Returns the store of rules from `source`: `table` or `file`.
    pub fn new(pool: MySqlPool, source: &'static str) -> Self {
        Self { pool, source }
    }

    /// Returns the fingerprint and the start of every stored version, by rule.
    pub async fn known(&self) -> Result<HashMap<i64, VersionStamp>, LastGoodError> {
        let query = sqlx::query_as(
            // A version of the alerter without this column leaves it 0.
            "SELECT rule_id, fingerprint, IF(counted_from = 0, \
             CAST(UNIX_TIMESTAMP(accepted_at) * 1000 AS SIGNED), counted_from) \
             FROM t_alert_rule_last_good WHERE source = ?",
        )
        .bind(self.source)
        .fetch_all(&self.pool);
        let rows: Vec<(i64, String, i64)> = tokio::time::timeout(TIMEOUT, query).await??;
        let known = |(id, fingerprint, from_ms)| (id, VersionStamp { fingerprint, from_ms });
        Ok(rows.into_iter().map(known).collect())
    }

    /// Returns the stored versions of these rules.
    pub async fn versions(&self, rules: &[i64]) -> Result<Vec<StoredVersion>, LastGoodError> {
        let mut versions = Vec::new();
        for rules in rules.chunks(ROWS_MAX) {
            let mut query: QueryBuilder<MySql> = QueryBuilder::new(
                "SELECT rule_id, `fields`, \
                 CAST(DATE_FORMAT(accepted_at, '%Y-%m-%d %H:%i:%s') AS CHAR) AS accepted_at \
                 FROM t_alert_rule_last_good WHERE source = ",
            );
            query.push_bind(self.source).push(" AND rule_id IN ");
            query.push_tuples(rules, |mut row, id| {
                row.push_bind(id);
            });
            let query = query.build_query_as().fetch_all(&self.pool);
            versions.extend(tokio::time::timeout(TIMEOUT, query).await??);
        }
        Ok(versions)
    }

    /// Stores these versions, at most [`ROWS_MAX`].
    pub async fn put(&self, forms: &[VersionToStore]) -> Result<(), LastGoodError> {
        let mut query: QueryBuilder<MySql> = QueryBuilder::new(
            "REPLACE INTO t_alert_rule_last_good (source, rule_id, `fields`, fingerprint, counted_from) ",
        );
        query.push_values(forms, |mut row, kept| {
            row.push_bind(self.source).push_bind(kept.rule_id);
            row.push_bind(&*kept.form).push_bind(&kept.known_by.fingerprint);
            row.push_bind(kept.known_by.from_ms);
        });
        let query = query.build().execute(&self.pool);
        tokio::time::timeout(TIMEOUT, query).await??;
        Ok(())
    }

    /// Removes the stored versions of these rules, at most [`ROWS_MAX`].
    pub async fn remove(&self, rules: &[i64]) -> Result<(), LastGoodError> {
        let mut query: QueryBuilder<MySql> =
            QueryBuilder::new("DELETE FROM t_alert_rule_last_good WHERE source = ");
        query.push_bind(self.source).push(" AND rule_id IN ");
        query.push_tuples(rules, |mut row, id| {
            row.push_bind(id);
        });
        let query = query.build().execute(&self.pool);
        tokio::time::timeout(TIMEOUT, query).await??;
        Ok(())
    }
}
