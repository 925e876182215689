//! Reads rows of the platform's tables as named texts, whichever variant of a table exists.
//!
//! Never writes. The callers interpret the rows.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use ljwx_ledger::mysql::removal::id_list;
use ljwx_ledger::mysql::{MySqlPool, errors};
use ljwx_ledger::platform_rows::PlatformRow;
use sqlx::AssertSqlSafe;
use tracing::warn;

use crate::notify::row_bound;

/// Most rows of one query. Rows beyond it have no effect.
const ROWS_MAX: usize = 20_000;

/// MySQL's errors for a table or a column that does not exist, or that this user may not read.
const MISSING_CODES: [u16; 4] = [1146, 1054, 1142, 1143];

/// The tables of which this process has logged that they are missing.
static LOGGED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// The platform's tables in the database of a pool.
pub struct PlatformTables(pub MySqlPool);

impl PlatformTables {
    /// Returns the rows of `table` for a WHERE or ORDER BY, which must not contain foreign text. A
    /// table that does not exist, or in which a column is missing, has no rows.
    pub async fn rows(
        &self,
        table: &'static str,
        condition: &str,
    ) -> sqlx::Result<Vec<PlatformRow>> {
        let query = format!("SELECT * FROM {table} {condition} LIMIT {}", ROWS_MAX + 1);
        let is_missing = |number: u16| MISSING_CODES.contains(&number);
        // As text, every column of every variant comes in one form.
        match sqlx::raw_sql(AssertSqlSafe(query)).fetch_all(&self.0).await {
            Ok(mut rows) => {
                row_bound::cut(table, ROWS_MAX, &mut rows);
                Ok(rows.iter().map(PlatformRow::of).collect())
            }
            Err(error) if errors::number(&error).is_some_and(is_missing) => {
                if LOGGED.lock().unwrap_or_else(PoisonError::into_inner).insert(table) {
                    warn!(table, %error, "platform table is missing, looking up people without it");
                }
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the rows of these ids, by id.
    pub async fn by_id(
        &self,
        table: &'static str,
        ids: &[i64],
    ) -> sqlx::Result<HashMap<i64, PlatformRow>> {
        let rows = self.rows(table, &format!("WHERE id IN ({})", id_list(ids))).await?;
        Ok(rows.into_iter().filter_map(|row| Some((row.id("id")?, row))).collect())
    }
}
