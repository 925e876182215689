//! Counts what MySQL and Redis hold of the devices and the user.

use anyhow::Context;
use ljwx_ledger::mysql::MySqlPool;
use sqlx::AssertSqlSafe;

use super::alert_state;
use super::parts::TablePart;
use super::redis_hash::DeviceHashes;
use super::subject::Subject;

/// The name of the lines of the alerter's journal.
pub const JOURNAL_LINES: &str = "t_alert_journal";

/// The name of the hashes in Redis.
pub const HASHES: &str = "redis";

/// The number of rows, lines or hashes of each place that has any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings(pub Vec<(&'static str, i64)>);

impl Holdings {
    /// Counts what is held.
    pub async fn count(
        pool: &MySqlPool,
        hashes: &DeviceHashes,
        subject: &Subject,
    ) -> anyhow::Result<Self> {
        let mut found = Self::default();
        for scope in &subject.scopes {
            for part in scope.tables() {
                found.add(part.table, rows(pool, &part).await?);
            }
            let lines = alert_state::lines(pool, scope).await;
            let lines = lines.context("cannot read t_alert_journal")?.len();
            found.add(JOURNAL_LINES, i64::try_from(lines).unwrap_or(i64::MAX));
            found.add(HASHES, i64::from(!hashes.read(scope).await?.is_empty()));
        }
        for part in subject.user_tables() {
            found.add(part.table, rows(pool, &part).await?);
        }
        Ok(found)
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, place: &'static str, count: i64) {
        match self.0.iter_mut().find(|(known, _)| *known == place) {
            Some((_, sum)) => *sum += count,
            None if count > 0 => self.0.push((place, count)),
            None => {}
        }
    }
}

async fn rows(pool: &MySqlPool, part: &TablePart) -> anyhow::Result<i64> {
    let TablePart { table, condition } = part;
    let query = format!("SELECT COUNT(*) FROM {table} WHERE {condition}");
    let rows = sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(pool).await;
    rows.with_context(|| format!("cannot read {table}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_once_and_only_if_they_hold_anything() {
        let mut found = Holdings::default();
        for (place, count) in [("a", 0), ("b", 2), ("c", 1), ("b", 3), ("c", 0)] {
            found.add(place, count);
        }
        assert_eq!(found.0, [("b", 5), ("c", 1)]);
        assert!(!found.is_empty() && Holdings::default().is_empty());
    }
}
