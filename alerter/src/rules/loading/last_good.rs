//! The last good version of each rule, in table `t_alert_rule_last_good`.
//!
//! Runs statements, each with a deadline. [`super::versions`] decides which versions are good, and
//! the caller handles failures. Replicas write the same rows. Each write replaces whole rows, so
//! the order of the writes does not matter.

use std::collections::HashMap;
use std::time::Duration;

use ljwx_ledger::mysql::MySqlPool;
use ljwx_ledger::mysql::sql::push_in;
use sqlx::{FromRow, MySql, QueryBuilder};

use super::versions::{GoodVersion, VersionStamp};

/// Rows of one statement, at most. A rule takes about 1 kB, and its texts 64 kB at most.
pub const ROWS_MAX: usize = 100;

/// Deadline of one statement: the rules must not wait for the store.
const TIMEOUT: Duration = Duration::from_secs(5);

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
        Self { pool: pool.with_limit(TIMEOUT), source }
    }

    /// Returns the fingerprint and the start of every stored version, by rule.
    pub async fn known(&self) -> sqlx::Result<HashMap<i64, VersionStamp>> {
        let rows: Vec<(i64, String, i64)> = sqlx::query_as(
            // A version of the alerter without this column leaves it 0.
            "SELECT rule_id, fingerprint, IF(counted_from = 0, \
             CAST(UNIX_TIMESTAMP(accepted_at) * 1000 AS SIGNED), counted_from) \
             FROM t_alert_rule_last_good WHERE source = ?",
        )
        .bind(self.source)
        .fetch_all(&self.pool)
        .await?;
        let known = |(id, fingerprint, from_ms)| (id, VersionStamp { fingerprint, from_ms });
        Ok(rows.into_iter().map(known).collect())
    }

    /// Returns the stored versions of these rules.
    pub async fn versions(&self, rules: &[i64]) -> sqlx::Result<Vec<StoredVersion>> {
        let mut versions = Vec::new();
        for rules in rules.chunks(ROWS_MAX) {
            let select = "SELECT rule_id, `fields`, \
                CAST(DATE_FORMAT(accepted_at, '%Y-%m-%d %H:%i:%s') AS CHAR) AS accepted_at";
            let mut query = self.of_rules(select, rules);
            let found: Vec<StoredVersion> = query.build_query_as().fetch_all(&self.pool).await?;
            versions.extend(found);
        }
        Ok(versions)
    }

    /// Stores these versions, at most [`ROWS_MAX`].
    pub async fn put(&self, versions: &[GoodVersion]) -> sqlx::Result<()> {
        let mut query: QueryBuilder<MySql> = QueryBuilder::new(
            "REPLACE INTO t_alert_rule_last_good (source, rule_id, `fields`, fingerprint, counted_from) ",
        );
        query.push_values(versions, |mut row, good| {
            row.push_bind(self.source).push_bind(good.rule.id);
            row.push_bind(&*good.form).push_bind(&good.fingerprint).push_bind(good.rule.from_ms);
        });
        query.build().execute(&self.pool).await.map(drop)
    }

    /// Removes the stored versions of these rules, at most [`ROWS_MAX`].
    pub async fn remove(&self, rules: &[i64]) -> sqlx::Result<()> {
        self.of_rules("DELETE", rules).build().execute(&self.pool).await.map(drop)
    }

    /// Begins a query of the stored versions of these rules.
    fn of_rules(&self, begin: &str, rules: &[i64]) -> QueryBuilder<MySql> {
        let mut query =
            QueryBuilder::new(format!("{begin} FROM t_alert_rule_last_good WHERE source = "));
        query.push_bind(self.source).push(" AND rule_id");
        push_in(&mut query, rules);
        query
    }
}
