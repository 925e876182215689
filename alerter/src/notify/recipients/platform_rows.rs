//! Rows of the platform's tables as named texts, whichever variant of a table is there.
//!
//! Reads; never writes. What a row means is not decided here.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use ljwx_ledger::mysql::MySqlPool;
use sqlx::mysql::{MySqlDatabaseError, MySqlRow};
use sqlx::{AssertSqlSafe, Column, Row};
use tracing::warn;

/// Rows of one question; beyond it the rest is not seen.
const ROWS_MAX: usize = 1_000;

/// No such table, no such column, and neither of them for this user.
const NOT_THERE: [u16; 4] = [1146, 1054, 1142, 1143];

/// One row: its columns by name, those that are NULL or blank left out.
#[derive(Clone, Default)]
pub struct Fields(HashMap<String, String>);

// Some of the columns are secrets.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Fields {
    fn of(row: &MySqlRow) -> Self {
        let columns = row.columns().iter().filter_map(|column| {
            let text: Option<String> = row.try_get_unchecked(column.ordinal()).ok()?;
            Some((column.name().to_owned(), text?.trim().to_owned()))
        });
        Self(columns.filter(|(_, text)| !text.is_empty()).collect())
    }

    /// A column's text; `None` also where there is no such column.
    pub fn text(&self, column: &str) -> Option<&str> {
        self.0.get(column).map(String::as_str)
    }

    /// A column's number; nowhere does 0 name anything.
    pub fn id(&self, column: &str) -> Option<i64> {
        self.text(column)?.parse().ok().filter(|id| *id != 0)
    }

    /// A column that is yes or no: a number, a character or a bit.
    pub fn flag(&self, column: &str, default: bool) -> bool {
        self.text(column).map_or(default, |flag| !matches!(flag, "0" | "\0"))
    }

    /// Whether a row may be used for a tenant: it is the tenant's, or says nothing of tenants.
    pub fn is_of(&self, customer_id: i64) -> bool {
        self.id("customer_id").or_else(|| self.id("tenant_id")).is_none_or(|id| id == customer_id)
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Fields {
    fn from(columns: [(&str, &str); N]) -> Self {
        let owned = columns.map(|(name, text)| (name.to_owned(), text.to_owned()));
        Self(owned.into_iter().filter(|(_, text)| !text.is_empty()).collect())
    }
}

#[cfg(test)]
impl Fields {
    /// These columns, and of `other` those that are not among them.
    pub fn or(self, other: Self) -> Self {
        Self(other.0.into_iter().chain(self.0).collect())
    }
}

/// The platform's tables.
pub struct Tables {
    pool: MySqlPool,
    /// Tables of which it was said that they cannot be read.
    said: Mutex<BTreeSet<&'static str>>,
}

impl Tables {
    /// The tables in the database of `pool`.
    pub fn new(pool: MySqlPool) -> Self {
        Self { pool, said: Mutex::default() }
    }

    /// Rows of `table` after a WHERE or ORDER BY, which must hold no text of others. A table that is
    /// not there, or lacks a column, has no rows.
    pub async fn rows(
        &self,
        table: &'static str,
        condition: &str,
    ) -> Result<Vec<Fields>, sqlx::Error> {
        let query = format!("SELECT * FROM {table} {condition} LIMIT {ROWS_MAX}");
        // As text, every column of every variant comes in one form.
        match sqlx::raw_sql(AssertSqlSafe(query)).fetch_all(&self.pool).await {
            Ok(rows) => Ok(rows.iter().map(Fields::of).collect()),
            Err(error) if is_not_there(&error) => {
                let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
                if said.insert(table) {
                    warn!(table, %error, "a table of the platform is not there; people are looked up without it");
                }
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }
}

fn is_not_there(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    error
        .try_downcast_ref::<MySqlDatabaseError>()
        .is_some_and(|error| NOT_THERE.contains(&error.number()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_numbers_of_every_variant_are_read() {
        for (text, flag) in [("1", true), ("0", false), ("\0", false), ("\u{1}", true), ("", true)]
        {
            assert_eq!(
                Fields::from([("is_active", text)]).flag("is_active", true),
                flag,
                "{text:?}"
            );
        }
        for (text, id) in [("7", Some(7)), ("0", None), ("", None), ("x", None)] {
            assert_eq!(Fields::from([("id", text)]).id("id"), id, "{text:?}");
        }
    }

    #[test]
    fn a_row_of_another_tenant_is_not_used() {
        for (row, own) in [
            (Fields::from([("customer_id", "7")]), true),
            (Fields::from([("customer_id", "8")]), false),
            (Fields::from([("tenant_id", "8")]), false),
            (Fields::from([("customer_id", "0")]), true),
            (Fields::from([]), true),
        ] {
            assert_eq!(row.is_of(7), own, "{row:?}");
        }
    }
}
