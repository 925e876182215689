//! The source of rules: a file, or the platform's table `t_alert_rules` in any of its variants.
//!
//! Reads and never writes. [`crate::rules::validation`] validates the rules.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use ljwx_ledger::mysql::MySqlPool;
use serde_json::{Map, Value};
use sqlx::mysql::MySqlRow;
use sqlx::{Column, Row};

use super::last_good::LastGoodStore;
use super::source_file;
use crate::rules::validation::together::check_together;
use crate::rules::validation::{self, CheckedRule};

/// Rules of one installation, at most. With more rules the load fails as a whole, and the active
/// rules stay.
const RULES_MAX: usize = 50_000;

/// The source of rules.
#[derive(Debug, Clone)]
pub enum RuleSource {
    /// The platform's table.
    Table(MySqlPool),
    /// A file.
    File(PathBuf),
}

impl RuleSource {
    /// Reads and validates all rules.
    pub async fn load(&self) -> anyhow::Result<Vec<CheckedRule>> {
        match self {
            Self::Table(pool) => load(pool).await.context("cannot read t_alert_rules"),
            Self::File(path) => source_file::load(path),
        }
    }

    /// Returns the store for the last good versions of the rules from this source.
    pub fn store(&self, pool: MySqlPool) -> LastGoodStore {
        LastGoodStore::new(pool, if matches!(self, Self::Table(_)) { "table" } else { "file" })
    }
}

/// Reads and validates every row.
async fn load(pool: &MySqlPool) -> anyhow::Result<Vec<CheckedRule>> {
    // As text, every column of every variant (numbers, times, JSON) has one form.
    let query = format!("SELECT * FROM t_alert_rules LIMIT {}", RULES_MAX + 1);
    let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(query)).fetch_all(pool).await?;
    ensure!(rows.len() <= RULES_MAX, "t_alert_rules has more than {RULES_MAX} rows");
    let mut checks = Vec::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        checks.push(validation::check(&fields(row)?, at + 1));
    }
    check_together(&mut checks);
    Ok(checks)
}

/// Returns a row as fields. A column that the variant does not have is absent.
fn fields(row: &MySqlRow) -> sqlx::Result<Map<String, Value>> {
    let mut fields = Map::new();
    for column in row.columns() {
        let text: Option<String> = row.try_get_unchecked(column.ordinal())?;
        fields.insert(column.name().to_owned(), text.map_or(Value::Null, Value::String));
    }
    Ok(fields)
}
