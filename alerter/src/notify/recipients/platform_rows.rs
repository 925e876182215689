//! Reads rows of the platform's tables as named texts, whichever variant of a table exists.
//!
//! Never writes. The callers interpret the rows.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use ljwx_ledger::mysql::removal::id_list;
use ljwx_ledger::mysql::{MySqlPool, errors};
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Column, Row};
use tracing::warn;

use crate::notify::row_bound;

/// Most rows of one query. Rows beyond it have no effect.
const ROWS_MAX: usize = 20_000;

/// MySQL's errors for a table or a column that does not exist, or that this user may not read.
const MISSING_CODES: [u16; 4] = [1146, 1054, 1142, 1143];

/// The tables of which this process has logged that they are missing.
static LOGGED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// One row: its columns by name, without those that are NULL or blank.
#[derive(Clone, Default)]
pub struct PlatformRow(HashMap<String, String>);

// Debug prints only the names of the columns: some values are secrets.
impl fmt::Debug for PlatformRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl PlatformRow {
    fn of(row: &MySqlRow) -> Self {
        let columns = row.columns().iter().filter_map(|column| {
            let text: Option<String> = row.try_get_unchecked(column.ordinal()).ok()?;
            Some((column.name().to_owned(), text?.trim().to_owned()))
        });
        Self(columns.filter(|(_, text)| !text.is_empty()).collect())
    }

    /// Returns a column's text. `None` also if the column does not exist.
    pub fn text(&self, column: &str) -> Option<&str> {
        self.0.get(column).map(String::as_str)
    }

    /// Returns a column's id. 0 is never an id.
    pub fn id(&self, column: &str) -> Option<i64> {
        self.text(column)?.parse().ok().filter(|id| *id != 0)
    }

    /// Returns a column that is yes or no: a number, a character or a bit.
    pub fn flag(&self, column: &str, default: bool) -> bool {
        self.text(column).map_or(default, |flag| !matches!(flag, "0" | "\0"))
    }

    /// Whether a row may be used for a tenant: it is the tenant's, or names no tenant.
    pub fn is_of(&self, customer_id: i64) -> bool {
        self.id("customer_id").or_else(|| self.id("tenant_id")).is_none_or(|id| id == customer_id)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    impl<const N: usize> From<[(&str, &str); N]> for PlatformRow {
        fn from(columns: [(&str, &str); N]) -> Self {
            let owned = columns.map(|(name, text)| (name.to_owned(), text.to_owned()));
            Self(owned.into_iter().filter(|(_, text)| !text.is_empty()).collect())
        }
    }

    impl PlatformRow {
        /// Returns these columns, and the columns of `other` that are not among them.
        pub fn or(self, other: Self) -> Self {
            Self(other.0.into_iter().chain(self.0).collect())
        }
    }

    #[test]
    fn flags_and_numbers_of_every_variant_are_read() {
        for (text, flag) in [("1", true), ("0", false), ("\0", false), ("\u{1}", true), ("", true)]
        {
            assert_eq!(
                PlatformRow::from([("is_active", text)]).flag("is_active", true),
                flag,
                "{text:?}"
            );
        }
        for (text, id) in [("7", Some(7)), ("0", None), ("", None), ("x", None)] {
            assert_eq!(PlatformRow::from([("id", text)]).id("id"), id, "{text:?}");
        }
    }

    #[test]
    fn a_row_of_another_tenant_is_not_used() {
        for (row, own) in [
            (PlatformRow::from([("customer_id", "7")]), true),
            (PlatformRow::from([("customer_id", "8")]), false),
            (PlatformRow::from([("tenant_id", "8")]), false),
            (PlatformRow::from([("customer_id", "0")]), true),
            (PlatformRow::from([]), true),
        ] {
            assert_eq!(row.is_of(7), own, "{row:?}");
        }
    }
}
